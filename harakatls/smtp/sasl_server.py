"""
The server's side of logging in (SASL, RFC 4422): responses in, challenges and questions out.

PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-256 with and without channel binding (RFC
7677, RFC 9266) and EXTERNAL (RFC 4422 appendix A). Who knows the users is asked by whoever runs
the steps; what a client sends may be anything.
"""

import hmac
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, NoReturn

from attrs import field, frozen

from harakatls.smtp.scram import TLS_EXPORTER, ClientFirst, ScramKeys, ScramServer, prepared

_DIGEST = re.compile(r"[0-9a-f]{32}")


@frozen
class Surroundings:
    """
    What a login depends on, besides the client.

    @ivar me: our host name.
    @ivar nonce: letters and digits that never come again.
    @ivar key: of this process, known to nobody: for what users that are not there would have.
    @ivar binding: what the TLS channel is known by at both of its ends (tls-exporter); None where
        there is no such thing.
    @ivar binding_offered: SCRAM-SHA-256-PLUS is offered.
    """

    me: str
    nonce: str
    key: bytes = field(repr=False)
    binding: bytes | None = field(default=None, repr=False)
    binding_offered: bool = False


# -- steps: what a mechanism wants next ---------------------------------------------------------


@frozen
class Challenge:
    """Goes to the client; the step is answered with its response."""

    octets: bytes


@frozen
class PasswordQuestion:
    """Is this the user's password? Answered with a bool."""

    user: str
    password: str = field(repr=False)


@frozen
class SecretQuestion:
    """What do we keep of the user? Answered with ScramKeys, or the password; None for nothing."""

    user: str


@frozen
class CertificateQuestion:
    """Whose is the client's certificate? Answered with the user's name; None for nobody's."""


Step = Challenge | PasswordQuestion | SecretQuestion | CertificateQuestion


@frozen
class LoggedIn:
    """
    How it ends well.

    @ivar password: where the client told it.
    """

    user: str
    password: str | None = field(default=None, repr=False)


Steps = Generator[Step, Any, LoggedIn]


class LoginMalformed(Exception):
    """A response that the mechanism does not know; the text is for the client."""


class LoginDenied(Exception):
    """
    Not the one he says to be, or may not be whom he wants to be.

    @ivar user: the name he gave, "" for none.
    """

    def __init__(self, user: str) -> None:
        super().__init__("denied")
        self.user = user


# -- the mechanisms -----------------------------------------------------------------------------


def _plain(initial: bytes | None, _: Surroundings) -> Steps:
    message = initial
    if message is None:
        message = yield Challenge(b"")
    parts = message.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise LoginMalformed("PLAIN is [authorization id] NUL user NUL password")
    authzid, name, password = map(_text, parts)
    return (yield from _checked(name, password, authzid))


def _login(initial: bytes | None, _: Surroundings) -> Steps:
    # Nobody has written it down. Haraka, Postfix and all others ask so, and clients look for it.
    name = initial
    if name is None:
        name = yield Challenge(b"Username:")
    if not name:
        raise LoginMalformed("A user has a name")
    password = yield Challenge(b"Password:")
    if not password:
        raise LoginMalformed("A password is not empty")
    return (yield from _checked(_text(name), _text(password)))


def _checked(name: str, given: str, authzid: str = "") -> Steps:
    user = _user(name, authzid)
    try:
        password = prepared(given)
    except ValueError:
        raise LoginDenied(user) from None
    granted = yield PasswordQuestion(user, password)
    if not granted:
        raise LoginDenied(user)
    return LoggedIn(user, password)


def _cram_md5(_: bytes | None, around: Surroundings) -> Steps:
    challenge = f"<{around.nonce}@{around.me}>".encode()
    response = yield Challenge(challenge)
    name, space, digest = _text(response).rpartition(" ")
    if not name or not space or not _DIGEST.fullmatch(digest):
        raise LoginMalformed("CRAM-MD5 is answered with user, space, digest in hexadecimal")
    user = _user(name)
    secret = yield SecretQuestion(user)
    known = isinstance(secret, str)
    password = secret if known else around.key.hex()
    expected = hmac.new(password.encode(), challenge, "md5").hexdigest()
    if not (hmac.compare_digest(expected, digest) and known):
        raise LoginDenied(user)
    return LoggedIn(user)


def _scram(initial: bytes | None, around: Surroundings) -> Steps:
    return (yield from _scram_messages(initial, around, plus=False))


def _scram_plus(initial: bytes | None, around: Surroundings) -> Steps:
    return (yield from _scram_messages(initial, around, plus=True))


def _scram_messages(initial: bytes | None, around: Surroundings, plus: bool) -> Steps:
    octets = initial
    if octets is None:
        octets = yield Challenge(b"")
    try:
        client = ClientFirst.parse(octets)
    except ValueError as problem:
        _malformed(problem)
    user = _user(client.user, client.authzid)
    if not _binds_as_it_should(client, around, plus):
        raise LoginDenied(user)
    secret = yield SecretQuestion(user)
    keys = secret if isinstance(secret, ScramKeys) else ScramKeys.pretended(user, around.key)
    server = ScramServer(client, keys, around.nonce, around.binding if plus else None)
    response = yield Challenge(server.first.encode())
    try:
        last = server.final(response)
    except ValueError as problem:
        _malformed(problem)
    if last is None or keys.is_pretended:
        raise LoginDenied(user)
    # RFC 4954 section 4: what a server says at a good end is a challenge, too, answered with
    # nothing.
    response = yield Challenge(last.encode())
    if response:
        raise LoginMalformed("There is nothing more to be said")
    return LoggedIn(user)


def _binds_as_it_should(client: ClientFirst, around: Surroundings, plus: bool) -> bool:
    """RFC 5802 section 6."""
    if plus:
        return client.binding == TLS_EXPORTER and around.binding is not None
    # "y" says that we have not offered PLUS: if we have, somebody between us left it out.
    return client.flag == "n" or (client.flag == "y" and not around.binding_offered)


def _external(initial: bytes | None, _: Surroundings) -> Steps:
    wanted = initial
    if wanted is None:
        wanted = yield Challenge(b"")
    user = yield CertificateQuestion()
    authzid = _text(wanted)
    if user is None:
        raise LoginDenied(authzid)
    return LoggedIn(_user(user, authzid))


def _text(octets: bytes) -> str:
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise LoginMalformed("Names and passwords are UTF-8") from None
    if "\0" in text:
        raise LoginMalformed("Names and passwords have no NUL")
    return text


def _user(name: str, authzid: str = "") -> str:
    """@param authzid: whose rights are wanted; nobody here may act for others."""
    try:
        user = prepared(name)
        if authzid and prepared(authzid) != user:
            raise LoginDenied(user)
    except ValueError:
        raise LoginDenied(name) from None
    return user


def _malformed(problem: ValueError) -> NoReturn:
    if isinstance(problem, UnicodeDecodeError):
        raise LoginMalformed("This is not UTF-8") from None
    raise LoginMalformed(str(problem)) from None


# -- all of them --------------------------------------------------------------------------------


@frozen
class ServerMechanism:
    """
    @ivar name: as in EHLO.
    @ivar server_begins: no initial response is legal (RFC 4954 section 4).
    """

    name: str
    steps: Callable[[bytes | None, Surroundings], Steps]
    server_begins: bool = False


MECHANISMS: Mapping[str, ServerMechanism] = {
    mechanism.name: mechanism
    for mechanism in (
        ServerMechanism("SCRAM-SHA-256-PLUS", _scram_plus),
        ServerMechanism("SCRAM-SHA-256", _scram),
        ServerMechanism("PLAIN", _plain),
        ServerMechanism("LOGIN", _login),
        ServerMechanism("CRAM-MD5", _cram_md5, server_begins=True),
        ServerMechanism("EXTERNAL", _external),
    )
}
"""In the order in which they are offered; many clients take the first that they know."""

NEED_BINDING = frozenset({"SCRAM-SHA-256-PLUS"})
