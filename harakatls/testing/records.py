"""TLS that is none: records without secrets, for servers in memory that only play it."""

from OpenSSL import SSL

ALERT, HANDSHAKE, DATA = 21, 22, 23  # RFC 8446 section 5.1
_HEADER = 5
_MOST = 1 << 14  # octets in one record


def record(kind: int, content: bytes = b"") -> bytes:
    """*content* as one record, or as many as it needs."""
    pieces = [content[at : at + _MOST] for at in range(0, len(content), _MOST)] or [b""]
    return b"".join(bytes((kind, 3, 3)) + len(piece).to_bytes(2, "big") + piece for piece in pieces)


class Records:
    """Cuts octets into records."""

    def __init__(self) -> None:
        self._input = bytearray()

    def add(self, octets: bytes) -> None:
        """Cut anywhere."""
        self._input += octets

    def next(self) -> tuple[int, bytes] | None:
        """Kind and content; None where none is complete."""
        if len(self._input) < _HEADER:
            return None
        end = _HEADER + int.from_bytes(self._input[3:_HEADER], "big")
        if len(self._input) < end:
            return None
        kind, content = self._input[0], bytes(self._input[_HEADER:end])
        del self._input[:end]
        return kind, content


class PretendedConnection:
    """In place of a client's `SSL.Connection`, as far as `tls.layer` uses it."""

    def __init__(self) -> None:
        self._records = Records()
        self._output = bytearray()
        self._begun = self._ended = False

    def set_connect_state(self) -> None:
        """It is a client in any case."""

    def do_handshake(self) -> None:
        """One message each."""
        if not self._begun:
            self._begun = True
            self._output += record(HANDSHAKE)
        answer = self._records.next()
        if answer is None:
            raise SSL.WantReadError
        if answer[0] != HANDSHAKE:
            raise SSL.Error([("", "", "wrong version number")])

    def bio_write(self, octets: bytes) -> int:
        """What came from the server."""
        self._records.add(octets)
        return len(octets)

    def recv(self, _: int) -> bytes:
        """What one record says."""
        found = self._records.next()
        if found is None:
            raise SSL.WantReadError
        if found[0] != DATA:
            raise SSL.ZeroReturnError
        return found[1]

    def send(self, octets: bytes) -> int:
        """All of it."""
        self._output += record(DATA, bytes(octets))
        return len(octets)

    def bio_read(self, most: int) -> bytes:
        """What is to be sent to the server."""
        octets = bytes(self._output[:most])
        if not octets:
            raise SSL.WantReadError
        del self._output[:most]
        return octets

    def shutdown(self) -> None:
        """The end of what we say."""
        if not self._ended:
            self._ended = True
            self._output += record(ALERT)
