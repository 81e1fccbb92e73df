"""SMTP servers in memory that follow a script."""

import re
from enum import Enum

from attrs import define


class Act(Enum):
    """What a peer may do in place of an answer."""

    SILENCE = "say nothing"
    HANG_UP = "close the connection in order"
    BREAK_OFF = "be gone"


SILENCE = Act.SILENCE
HANG_UP = Act.HANG_UP
BREAK_OFF = Act.BREAK_OFF

_BDAT = re.compile(r"BDAT ([0-9]+)(?: LAST)?\Z", re.IGNORECASE)

Answer = str | Act | tuple[str, Act]
"""
A reply, one line of text for each of its lines; or an act; or both.

The lines of a reply are those of the wire ("250-a" and "250 b"), without their CRLF.
"""


@define
class Said:
    """One line from the client. @ivar secured: inside of TLS."""

    line: str
    secured: bool


class ScriptedPeer:
    """
    An SMTP server that plays a script: pairs of what it expects and what it answers.

    Expected is the beginning of a command line, whatever its case; "" is the connection itself and
    "." the end of a message. What comes unexpected is noted in `problems` and ends the connection.

    @ivar said: the command lines that came.
    @ivar messages: the messages that came, dots unstuffed.
    @ivar problems: what was not as the script has it.
    @ivar handshake: whether TLS works, when it comes to it; `SILENCE` is a handshake that hangs.
    @ivar gone: the client has closed the connection.
    @ivar extra: octets sent in the clear right behind the answer to STARTTLS (an attack).
    """

    def __init__(self, *script: tuple[str, Answer], handshake: bool | Act = True) -> None:
        self.script = list(script)
        self.handshake = handshake
        self.said: list[Said] = []
        self.messages: list[bytes] = []
        self.problems: list[str] = []
        self.gone = False
        self.secured = False
        self.extra = b""
        self.output = bytearray()
        self.ending: Act | None = None
        self._input = bytearray()
        self._receiving = False
        self._chunk: tuple[str, int] | None = None  # a BDAT command and the octets to come

    # -- the script -----------------------------------------------------------------------------

    def answer(self, command: str) -> Answer:
        """What to say to *command* ("" and "." as in the script)."""
        if self.script:
            expected, answer = self.script[0]
            if command.upper().startswith(expected.upper()) and bool(expected) == bool(command):
                del self.script[0]
                return answer
        wanted = self.script[0][0] if self.script else "nothing more"
        self.problems.append(f"{command!r} came in place of {wanted!r}")
        return ("421 4.3.0 This is not in the script", HANG_UP)

    @property
    def commands(self) -> list[str]:
        """The lines that came, without what concerns TLS."""
        return [said.line for said in self.said]

    # -- what the network calls -----------------------------------------------------------------

    def connected(self) -> None:
        """A client is there."""
        self._respond("")

    def received(self, data: bytes) -> None:
        """Octets from the client."""
        self._input += data
        while not self.ending and self._next():
            pass

    def started_tls(self) -> None:
        """The handshake has succeeded."""
        self.secured = True
        self._input.clear()

    # -- lines and messages ---------------------------------------------------------------------

    def _next(self) -> bool:
        if self._chunk is not None:
            return self._whole_chunk(*self._chunk)
        return self._message() if self._receiving else self._line()

    def _whole_chunk(self, command: str, octets: int) -> bool:
        """BDAT is answered when its octets are there (RFC 3030)."""
        if len(self._input) < octets:
            return False
        self.messages.append(bytes(self._input[:octets]))
        del self._input[:octets]
        self._chunk = None
        self._respond(command)
        return True

    def _line(self) -> bool:
        end = self._input.find(b"\r\n")
        if end < 0:
            return False
        line = self._input[:end].decode("utf-8", "replace")
        del self._input[: end + 2]
        self.said.append(Said(line, self.secured))
        chunk = _BDAT.match(line)
        if chunk is not None:
            self._chunk = line, int(chunk[1])
        else:
            self._respond(line)
        return True

    def _message(self) -> bool:
        # The CRLF of DATA itself may be the one before the dot.
        if self._input.startswith(b".\r\n"):
            end, length = 0, 3
        else:
            found = self._input.find(b"\r\n.\r\n")
            if found < 0:
                return False
            end, length = found + 2, 3
        stuffed = bytes(self._input[:end])
        del self._input[: end + length]
        unstuffed = (b"\r\n" + stuffed).replace(b"\r\n..", b"\r\n.")[2:]
        self.messages.append(unstuffed)
        self._receiving = False
        self._respond(".")
        return True

    def _respond(self, command: str) -> None:
        answer = self.answer(command)
        if isinstance(answer, Act):
            answer = ("", answer)
        reply, act = answer if isinstance(answer, tuple) else (answer, SILENCE)
        if reply:
            self.output += "".join(f"{line}\r\n" for line in reply.split("\n")).encode()
            if reply.startswith("354"):
                self._receiving = True
            if reply.startswith("220") and command.upper().startswith("STARTTLS"):
                self.output += self.extra
        if act in (HANG_UP, BREAK_OFF):
            self.ending = act


_USUAL: dict[str, Answer] = {
    "connect": "220 peer.example ESMTP",
    "EHLO": "250-peer.example\n250-PIPELINING\n250-8BITMIME\n250 SIZE 26214400",
    "LHLO": "250-peer.example\n250-PIPELINING\n250 8BITMIME",
    "HELO": "250 peer.example",
    "STARTTLS": "220 2.0.0 Go ahead",
    "XCLIENT": "220 peer.example ESMTP",
    "MAIL": "250 2.1.0 Sender ok",
    "RCPT": "250 2.1.5 Recipient ok",
    "DATA": "354 Go on",
    "end": "250 2.0.0 Kept",
    "BDAT": "250 2.0.0 Kept",
    "RSET": "250 2.0.0 Forgotten",
    "QUIT": ("221 2.0.0 Goodbye", HANG_UP),
}


class ObligingPeer(ScriptedPeer):
    """
    An SMTP server that says yes to everything but what it is told otherwise::

        ObligingPeer(MAIL="451 4.7.1 Later", RCPT=["250 Ok", "550 5.1.1 No such user"])

    A list is used up, then the usual answers follow. `connect` is the greeting and `end` the
    answer to the message; in LMTP (LHLO) that is one line for each recipient. What depends on a
    command that was refused is refused with 503, where nothing else is said.
    """

    def __init__(
        self,
        *extensions: str,
        handshake: bool | Act = True,
        **answers: Answer | list[Answer],
    ) -> None:
        """@param extensions: offered in place of the usual ones: "STARTTLS", "SIZE 1000"."""
        super().__init__(handshake=handshake)
        self._answers = dict(answers)
        self._extensions = extensions
        self._accepted: set[str] = set()

    def answer(self, command: str) -> Answer:
        """As `ScriptedPeer.answer`."""
        verb = {"": "connect", ".": "end"}.get(command) or command.split(" ")[0].upper()
        answer = self._given(verb) or self._usual(verb)
        if isinstance(answer, str) and answer[0] in "23":
            self._accepted.add(verb)
        if verb in ("MAIL", "RSET", "end", "BDAT"):
            self._accepted -= {"RCPT", "DATA", *({"MAIL"} if verb != "MAIL" else ())}
        return answer

    def _given(self, verb: str) -> Answer | None:
        given = self._answers.get(verb)
        if isinstance(given, list):
            return given.pop(0) if given else None
        return given

    def _usual(self, verb: str) -> Answer:
        needed = {"RCPT": "MAIL", "DATA": "RCPT", "BDAT": "RCPT"}.get(verb)
        if needed is not None and needed not in self._accepted:
            return f"503 5.5.1 {needed} first"
        if verb in ("EHLO", "LHLO") and self._extensions:
            offered = [e for e in self._extensions if not (self.secured and e == "STARTTLS")]
            *first, last = ["peer.example", *offered]
            return "\n".join([*(f"250-{line}" for line in first), f"250 {last}"])
        return _USUAL.get(verb, "500 5.5.2 Unrecognized")
