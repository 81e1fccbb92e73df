"""All that we say to a peer: what a verdict sounds like, and our other texts."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple, TypeGuard

from attrs import evolve
from twisted.logger import Logger

from harakatls.connection import Connection
from harakatls.inbound.settings import InboundSettings
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.refusals import TOO_LARGE
from harakatls.smtp.reply import EnhancedStatus, Reply
from harakatls.verdict import Accept, Continue, Disconnect, Reject, TempFail, Verdict

log = Logger()

try:
    VERSION = version("harakatls")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = ""

BANNER_ID_CHARACTERS = 6  # of the connection's id, so that a user can tell us which it was

# (stage, verdict) → code, enhanced status, text. Where it is the same as Haraka's it is so on
# purpose: there are scripts that look for it. {about} is the address, HELO or EHLO, or the
# queue id. RFC 2034 section 3: no enhanced status in the greeting, after HELO and EHLO, in 3yz.
_TEXTS: Mapping[tuple[str, type], tuple[int, str | None, str]] = {
    ("connect", Reject): (554, None, "Your mail is not welcome here"),
    ("connect", TempFail): (421, None, "Come back later"),
    ("connect", Disconnect): (421, None, "Come back later"),
    ("hello", Reject): (550, None, "{about} denied"),
    ("hello", TempFail): (450, None, "{about} denied"),
    ("hello", Disconnect): (421, None, "{about} denied"),
    ("mail", Accept): (250, "2.1.0", "sender <{about}> OK"),
    ("mail", Reject): (550, "5.7.1", "sender <{about}> denied"),
    ("mail", TempFail): (450, "4.7.1", "sender <{about}> denied"),
    ("mail", Disconnect): (421, "4.7.0", "sender <{about}> denied"),
    ("rcpt", Accept): (250, "2.1.5", "recipient <{about}> OK"),
    ("rcpt", Continue): (550, "5.7.1", "I cannot deliver mail for <{about}>"),
    ("rcpt", Reject): (550, "5.7.1", "recipient <{about}> denied"),
    ("rcpt", TempFail): (450, "4.7.1", "recipient <{about}> denied"),
    ("rcpt", Disconnect): (421, "4.7.0", "recipient <{about}> denied"),
    ("data", Accept): (354, None, "go ahead, make my day"),
    ("data", Reject): (554, "5.7.1", "Message denied"),
    ("data", TempFail): (451, "4.7.1", "Message denied"),
    ("data", Disconnect): (421, "4.7.0", "Message denied"),
    ("message", Reject): (550, "5.7.1", "Message denied"),
    ("message", TempFail): (450, "4.7.1", "Message denied temporarily"),
    ("message", Disconnect): (421, "4.7.0", "Message denied"),
    ("queue", Accept): (250, "2.0.0", "Message Queued ({about})"),
    ("queue", Reject): (550, "5.7.1", "Message denied"),
    ("queue", TempFail): (451, "4.3.0", "Message could not be queued, try later"),
    ("queue", Disconnect): (421, "4.3.0", "Message could not be queued"),
    ("too_large", Continue): (TOO_LARGE.code, "5.3.4", TOO_LARGE.lines[0]),
    ("too_large", Reject): (TOO_LARGE.code, "5.3.4", TOO_LARGE.lines[0]),
    ("too_large", TempFail): (450, "4.3.4", TOO_LARGE.lines[0]),
    ("too_large", Disconnect): (421, "4.3.4", TOO_LARGE.lines[0]),
    ("unrecognized", Accept): (250, "2.0.0", "OK"),
    ("unrecognized", Continue): (500, "5.5.2", "Unrecognized command"),
    ("unrecognized", Reject): (500, "5.5.2", "Unrecognized command"),
    ("unrecognized", TempFail): (500, "5.5.2", "Unrecognized command"),
    ("unrecognized", Disconnect): (421, "4.7.0", "Unrecognized command"),
    ("verify", Accept): (250, "2.1.5", "User OK"),
    ("verify", Continue): (
        252,
        "2.0.0",
        "Just try sending a mail and we'll see how it turns out...",
    ),
    ("verify", Reject): (550, "5.7.1", "Access Denied"),
    ("verify", TempFail): (450, "4.7.1", "Lookup Failed"),
    ("verify", Disconnect): (421, "4.7.0", "Access Denied"),
    ("noop", Accept): (250, "2.0.0", "OK"),
    ("noop", Reject): (500, "5.7.1", "Stop wasting my time"),
    ("noop", TempFail): (450, "4.7.1", "Stop wasting my time"),
    ("noop", Disconnect): (421, "4.7.0", "Stop wasting my time"),
}


OK = Reply.of(250, "2.0.0", "OK")
NOT_EXPANDED = Reply.of(502, "5.5.1", "Lists are not expanded here")
NO_SUCH_MECHANISM = Reply.of(504, "5.5.4", "There is no such AUTH mechanism here")
LOGGED_IN = Reply.of(235, "2.7.0", "Authentication successful")
LOGIN_FAILED = Reply.of(535, "5.7.8", "Authentication failed")
LOGIN_UNAVAILABLE = Reply.of(454, "4.7.0", "Temporary authentication failure, try later")
TOO_MANY_FAILED_LOGINS = Reply.of(421, "4.7.0", "Too many failed logins")
AUTHENTICATION_REQUIRED = Reply.of(530, "5.7.0", "Authentication required")
READY_FOR_TLS = Reply.of(220, "2.0.0", "Go ahead.")
TLS_NOT_AVAILABLE = Reply.of(454, "4.7.0", "TLS not available due to temporary reason")
NO_SPACE = Reply.of(452, "4.3.1", "Insufficient system storage, try later")
# One recipient stands for more than a message may have; it never will go.
TOO_MANY_IN_PLACE = Reply.of(550, "5.5.3", "Too many recipients")
TOO_MUCH_MAIL = Reply.of(452, "4.3.1", "Too much mail at the same time, try later")
MAIL_LOOP = Reply.of(550, "5.4.6", "Too many received headers - possible mail loop")
TIMEOUT = Reply.of(421, "4.4.2", "timeout")
TOO_SLOW = Reply.of(421, "4.4.2", "Your message comes in too slowly, try later")
NO_MESSAGE = Reply.of(421, "4.4.2", "No message for too long, try later")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands without a message")
TALKS_TOO_SOON = Reply.of(554, "5.5.1", "You talk too soon")
SHUTTING_DOWN = Reply.of(421, "4.3.2", "Server is shutting down, closing connection")
TOO_MANY_CONNECTIONS = Reply.of(421, "4.3.2", "Too many connections, try later")
TOO_MANY_OF_YOURS = Reply.of(421, "4.7.0", "Too many connections from your address, try later")
# Said instead of the greeting, so that no enhanced status goes with it.
PROXY_TIMEOUT = Reply.of(421, None, "PROXY timeout")
PROXY_INVALID = Reply.of(421, None, "Invalid PROXY format")
STOPPING_BEFORE_GREETING = Reply.of(421, None, "Server is shutting down, closing connection")
INTERNAL_ERROR = Reply.of(421, "4.3.0", "Internal Server Error")

# They need none (RFC 2034 section 4), or nobody knows what they are answered with.
_WITHOUT_STATUS = frozenset({"connect", "hello", "unrecognized"})
_NO_STATUS = EnhancedStatus(5, 0, 0)  # but its class

# What the reply that a plugin gives along with its verdict may be: the first digits of its code.
_FITTING: Mapping[type, tuple[int, ...]] = {
    Accept: (2,),
    Reject: (5,),
    TempFail: (4,),
    Disconnect: (4, 5),
}


class _Text(NamedTuple):
    """A reply that names what it is about: between *before* and *behind*."""

    code: int
    enhanced: EnhancedStatus | None
    before: str
    behind: str

    def to_reply(self, about: str) -> Reply:
        return Reply(self.code, self.enhanced, (f"{self.before}{about}{self.behind}",))


def _prepared(code: int, enhanced: str | None, text: str) -> Reply | _Text:
    whole = Reply.of(code, enhanced, text)
    before, found, behind = text.partition("{about}")
    return _Text(code, whole.enhanced, before, behind) if found else whole


_PREPARED: dict[str, dict[type, Reply | _Text]] = {}
for (_stage, _kind), _text in _TEXTS.items():
    _PREPARED.setdefault(_stage, {})[_kind] = _prepared(*_text)
for _stage, _texts in _PREPARED.items():
    if Accept in _texts:
        _texts.setdefault(Continue, _texts[Accept])


def reply_to(stage: str, verdict: Verdict, about: str = "") -> Reply:
    """
    What a verdict at *stage* is answered with: the plugin's own reply, or ours.

    Continue is a yes everywhere but at rcpt. To a yes at connect and hello the conversation has
    answers of its own.

    @param about: the address, HELO or EHLO, or the queue id.
    """
    kind = verdict.__class__
    own: object = None if kind is Continue else verdict.reply  # type: ignore[union-attr]
    if own is not None:
        if _is_reply(own) and _fits(stage, verdict, own):
            if stage not in _WITHOUT_STATUS:
                own = _with_status(own, stage, kind)
            return _with_queue_id(own, about) if stage == "queue" and own.is_positive else own
        log.error(
            "a plugin gave {verdict} at {stage} the reply {reply!r}, which is none or says "
            "something else; it is not used",
            verdict=kind.__name__,
            stage=stage,
            reply=own,
        )
    prepared = _PREPARED[stage][kind]
    if isinstance(prepared, Reply):
        return prepared
    # The same senders and recipients come again and again; queue ids never do.
    return prepared.to_reply(about) if stage == "queue" else _rendered(prepared, about)


@lru_cache(maxsize=1024)
def _rendered(text: _Text, about: str) -> Reply:
    return text.to_reply(about)


def _is_reply(own: object) -> TypeGuard[Reply]:
    """
    Plugins need not be checked by any tool. To fail here, on the way from a message that was taken
    to its 250, would have the sender send it again and again.
    """
    return (
        isinstance(own, Reply)
        and isinstance(own.code, int)
        and isinstance(own.lines, tuple)
        and bool(own.lines)
        and all(isinstance(line, str) for line in own.lines)
    )


def _fits(stage: str, verdict: Verdict, reply: Reply) -> bool:
    if stage == "data" and isinstance(verdict, Accept):
        return reply.code == 354
    return reply.code // 100 in _FITTING[verdict.__class__]


def _with_status(reply: Reply, stage: str, kind: type[Verdict]) -> Reply:
    """
    RFC 2034 section 4: each reply has a status whose class is that of its code, but those that
    announce something. A plugin, or a server behind one, may not know of it; then it is that of our
    own reply in its place.
    """
    status, severity = reply.enhanced, reply.code // 100
    if severity == 3:
        return reply if status is None else evolve(reply, enhanced=None)
    if status is not None and status.severity == severity:
        return reply
    ours = _PREPARED[stage].get(kind)
    _, subject, detail = status or (ours and ours.enhanced) or _NO_STATUS
    return evolve(reply, enhanced=EnhancedStatus(severity, subject, detail))


def _with_queue_id(reply: Reply, queue_id: str) -> Reply:
    *lines, last = reply.lines
    return Reply(reply.code, reply.enhanced, (*lines, f"{last} ({queue_id})"))


def product(show_version: bool) -> str:
    """Our name, as in the banner and the Received field."""
    return f"harakatls/{VERSION}" if show_version and VERSION else "harakatls"


def banner(settings: InboundSettings, connection_id: str) -> Reply:
    """The greeting, 220; our host name is its first word (RFC 5321 section 4.2)."""
    first, *others = settings.greeting or (f"{product(settings.show_version)} ready",)
    tag = connection_id[:BANNER_ID_CHARACTERS]
    return Reply(220, None, (f"{settings.me} ESMTP {first} ({tag})", *others))


def welcome(settings: InboundSettings, connection: Connection) -> str:
    """The first line of the answer to HELO and EHLO."""
    host = f"[{connection.peer.host}]"
    who = host if connection.peer_name is None else f"{connection.peer_name} {host}"
    return f"{settings.me} Hello {who}, {settings.helo}"


def proxy_not_allowed(connection: Connection) -> Reply:
    """To a PROXY header of somebody who is not to send one."""
    return Reply.of(421, "4.7.0", f"PROXY not allowed from {connection.peer.host}")


@lru_cache(maxsize=4)
def farewell(settings: InboundSettings) -> Reply:
    """The answer to QUIT."""
    return Reply.of(221, "2.0.0", f"{settings.me} {settings.close}")


_COMMANDS = ("HELO", "EHLO", "STARTTLS", "AUTH", "XCLIENT", "MAIL", "RCPT", "DATA", "BDAT")
_MORE_COMMANDS = ("RSET", "NOOP", "VRFY", "HELP", "QUIT")
_OFFERED_AS = {"STARTTLS": "STARTTLS", "AUTH": "AUTH", "XCLIENT": "XCLIENT", "BDAT": "CHUNKING"}


def commands(offered: Capabilities) -> Reply:
    """The answer to HELP: what may be said in this session, by what EHLO has offered in it."""
    known = (v for v in _COMMANDS if v not in _OFFERED_AS or _OFFERED_AS[v] in offered)
    return Reply.of(214, "2.0.0", " ".join((*known, *_MORE_COMMANDS)), "See RFC 5321")
