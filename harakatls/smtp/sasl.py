"""
The client's side of logging in (SASL, RFC 4422): challenges in, responses out.

SCRAM-SHA-256 (RFC 7677), CRAM-MD5 (RFC 2195), PLAIN (RFC 4616) and LOGIN. What a server sends may
be anything; it is answered rightly, or `LoginBroken` says what is wrong with it.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator

from attrs import frozen
from scramp import ScramClient, ScramException

from harakatls.mail.route import Credentials
from harakatls.smtp.reply import Reply

CHALLENGE_OCTETS = 4096  # decoded; none of these mechanisms has use for more
# Who asks for more wants to keep us busy: this is about a third of a second.
SCRAM_ITERATIONS = 1_000_000

Steps = Generator[bytes | None, bytes, None]
"""Yields responses and is sent challenges; the first response is None where the server begins."""


class LoginBroken(Exception):
    """This server cannot be logged in to, or is not to be trusted with it; the text says why."""


@frozen
class Mechanism:
    """
    @ivar name: as in EHLO.
    @ivar steps: makes the responses.
    @ivar proves_server: the server, too, has to show that it knows the password.
    """

    name: str
    steps: Callable[[Credentials], Steps]
    proves_server: bool = False


class Login:
    """
    One login, from the first response to the server's yes.

    @ivar initial: to be sent with the command itself; None where the server begins.
    """

    def __init__(self, mechanism: Mechanism, credentials: Credentials) -> None:
        """@raise LoginBroken: user or password cannot be written in this mechanism."""
        self.mechanism = mechanism
        self._steps = mechanism.steps(credentials)
        self._over = False
        self.initial = self._next(None)

    def response(self, challenge: Reply) -> bytes:
        """
        What to answer to a 334.

        @raise LoginBroken: no answer is right: the login is to be cancelled.
        """
        octets = _decoded(challenge)
        if self._over:
            raise LoginBroken(f"{self.mechanism.name} is over, and the server asks for more")
        response = self._next(octets)
        return b"" if response is None else response

    def accepted(self) -> None:
        """
        The server has said yes.

        @raise LoginBroken: it has not shown that it is who it should be.
        """
        if self.mechanism.proves_server and not self._over:
            raise LoginBroken("the server says yes without having shown that it knows the password")

    def _next(self, challenge: bytes | None) -> bytes | None:
        try:
            return next(self._steps) if challenge is None else self._steps.send(challenge)
        except StopIteration:
            self._over = True
            if challenge is not None and not self.mechanism.proves_server:
                raise LoginBroken(f"{self.mechanism.name} has said all it has to say") from None
            return None
        except (ScramException, ValueError) as problem:
            # Neither of these tells the password: they are about what the server said.
            raise LoginBroken(f"{self.mechanism.name}: {problem}") from None


def _decoded(challenge: Reply) -> bytes:
    if len(challenge.lines) != 1:
        raise LoginBroken("the challenge has several lines")
    text = challenge.lines[0]
    if len(text) > CHALLENGE_OCTETS * 4 // 3 + 4:
        raise LoginBroken(f"the challenge is longer than {CHALLENGE_OCTETS} octets")
    try:
        return b64decode(text.strip(), validate=True)
    except ValueError:
        raise LoginBroken("the challenge is not base64") from None


# -- the mechanisms -------------------------------------------------------------------------------


def _plain(credentials: Credentials) -> Steps:
    user, password = credentials.user.encode(), credentials.password.encode()
    if b"\0" in user + password:
        raise ValueError("no user and no password may hold a NUL")
    yield b"\0%b\0%b" % (user, password)


def _login(credentials: Credentials) -> Steps:
    # Nobody has written down what the questions are; all servers ask in this order.
    yield None
    yield credentials.user.encode()
    yield credentials.password.encode()


def _cram_md5(credentials: Credentials) -> Steps:
    challenge = yield None
    digest = hmac.new(credentials.password.encode(), challenge, "md5").hexdigest()
    yield f"{credentials.user} {digest}".encode()


def _scram_sha_256(credentials: Credentials) -> Steps:
    client = ScramClient(["SCRAM-SHA-256"], credentials.user, credentials.password)
    server_first = (yield client.get_client_first().encode()).decode()
    _check_iterations(server_first)
    client.set_server_first(server_first)
    server_final = yield client.get_client_final().encode()
    client.set_server_final(server_final.decode())
    # Behind this the server says yes; RFC 4954 section 4 has nothing to go with that.


def _check_iterations(server_first: str) -> None:
    for attribute in server_first.split(","):
        digits = attribute.removeprefix("i=")
        if digits != attribute and (len(digits) > 9 or _number(digits) > SCRAM_ITERATIONS):
            raise ValueError(f"the server wants more than {SCRAM_ITERATIONS} iterations")


def _number(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() else 0


MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism("SCRAM-SHA-256", _scram_sha_256, proves_server=True),
    Mechanism("CRAM-MD5", _cram_md5),
    Mechanism("PLAIN", _plain),
    Mechanism("LOGIN", _login),
)
"""The best first."""

MECHANISM_NAMES = tuple(mechanism.name for mechanism in MECHANISMS)


def choose(offered: str, wanted: str | None = None) -> Mechanism | None:
    """
    The best mechanism that both sides know.

    @param offered: what stands behind AUTH in the answer to EHLO.
    @param wanted: the only one to be used, or None.
    """
    names = {name.upper() for name in offered.split()}
    for mechanism in MECHANISMS:
        if mechanism.name in names and wanted in (None, mechanism.name):
            return mechanism
    return None


def encoded(response: bytes) -> str:
    """A response as it is sent."""
    return b64encode(response).decode("ascii")
