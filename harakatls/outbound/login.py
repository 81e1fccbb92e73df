"""
Logs in to a next hop that wants to know us (AUTH, RFC 4954), or says why not.

A login that fails delays the mail: what is wrong is ours to repair, whatever the server calls it,
and no fault of the sender's. Without the login nothing is sent.
"""

from collections.abc import Sequence

from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.mail.route import Credentials, NextHop
from harakatls.outbound.protocol import OutboundProtocol
from harakatls.outbound.refused_logins import RefusedLogins
from harakatls.smtp.events import Asked
from harakatls.smtp.reply import Reply
from harakatls.smtp.sasl import MECHANISM_NAMES, Login, LoginBroken, Mechanism, choose, encoded

log = Logger()

_CHALLENGE, _YES = 334, 235
_LINE = 500  # octets; a longer first response waits for a 334 (RFC 4954 section 4)
_HIDDEN = "..."


async def log_in(
    protocol: OutboundProtocol,
    hop: NextHop,
    secured: TLSSummary | None,
    seconds: float,
    logins: RefusedLogins,
) -> Reply | None:
    """
    @param seconds: for each answer.
    @return: None where mail may be sent: after a login, or where the hop wants none. Else why not.
    @raise ConnectionBroken: the server is gone, or too slow.
    """
    credentials = hop.credentials
    if credentials is None:
        return None
    name = hop.name
    if secured is None and not credentials.without_tls:
        return _refusal("4.7.11", f"{name} is not told our password without TLS")
    offered = protocol.session.capabilities.parameters("AUTH")
    if "AUTH" not in protocol.session.capabilities:
        return _refusal("4.7.0", f"{name} offers no AUTH, and we have to log in there")
    mechanism = choose(offered, credentials.mechanism)
    if mechanism is None:
        ours = credentials.mechanism or ", ".join(MECHANISM_NAMES)
        return _refusal("4.7.0", f"{name} offers no AUTH that we may use ({ours})")
    if secured is not None and not secured.verified and not mechanism.proves_server:
        _warn(hop, secured, logins)
    async with logins.turn(hop, credentials):
        refused = logins.problem(hop)
        if refused is not None:
            return _refusal("4.7.8", f"{name}: {refused}")
        return await _logged_in(protocol, hop, mechanism, credentials, seconds, logins)


async def _logged_in(
    protocol: OutboundProtocol,
    hop: NextHop,
    mechanism: Mechanism,
    credentials: Credentials,
    seconds: float,
    logins: RefusedLogins,
) -> Reply | None:
    """As `log_in`."""
    name = hop.name
    said: list[str] = []
    try:
        reply = await _conversation(protocol, Login(mechanism, credentials), seconds, said)
    except LoginBroken as problem:
        log.warn("AUTH with {host} failed: {problem}", host=name, problem=str(problem))
        return _refusal("4.7.0", f"AUTH with {name} failed: {problem}")
    if reply.code == _YES:
        logins.accepted(hop, credentials)
        return None
    answer = _discreet(reply, credentials, said)
    if not reply.is_permanent:
        return _refusal("4.7.0", f"{name} does not take our login now: {answer}")
    log.warn(
        "{host} refused our user name or password ({mechanism}): {reply}",
        host=name,
        mechanism=mechanism.name,
        reply=answer,
    )
    did = f"refused our login with {mechanism.name}: {answer}"
    logins.refused(hop, credentials, did)
    return _refusal("4.7.8", f"{name} {did}")


def _warn(hop: NextHop, secured: TLSSummary, logins: RefusedLogins) -> None:
    """Once for each host."""
    if logins.is_news(hop):
        log.warn(
            "{host} is told logins, and its certificate is not verified ({problem}):"
            " somebody in between could read it; force_tls_hosts[]={host} in tls.ini has mail wait"
            " until the certificate is right",
            host=hop.name,
            problem=secured.verify_error or "nothing asks for it",
        )


async def _conversation(
    protocol: OutboundProtocol, login: Login, seconds: float, said: list[str]
) -> Reply:
    """
    @param said: gets each of our responses, as it is sent.
    @return: the server's last word.
    @raise LoginBroken: ours; the server has been told that there will be no login.
    """
    session = protocol.session
    initial = None if login.initial is None else encoded(login.initial)
    waits = initial is not None and len(initial) > _LINE
    said += [initial] if initial else []
    protocol.send(session.authenticate(login.mechanism.name, None if waits else initial))
    reply = await protocol.answer(Asked.AUTH, seconds)
    while reply.code == _CHALLENGE:
        try:
            if waits and initial is not None:
                response, waits = initial, False
            else:
                response = encoded(login.response(reply))
        except LoginBroken:
            protocol.send(session.respond(None))
            await protocol.answer(Asked.AUTH, seconds)
            raise
        said.append(response)
        protocol.send(session.respond(response))
        reply = await protocol.answer(Asked.AUTH, seconds)
    if reply.code == _YES:
        login.accepted()
    return reply


def _refusal(status: str, text: str) -> Reply:
    return Reply.of(451, status, text)


def _discreet(reply: Reply, credentials: Credentials, said: Sequence[str]) -> str:
    """
    Without what a server repeats of the login: the text is in logs and in reports to senders.

    @param said: our responses, in base64.
    """
    text = str(reply)
    login = (credentials.password, credentials.user)
    for secret in (*said, *login, *(encoded(word.encode()) for word in login)):
        text = text.replace(secret, _HIDDEN) if secret else text
    return text
