"""The header field TLS-Required (RFC 8689 section 3), looked for while a message comes in."""

from harakatls.mail.header import HEADER_OCTETS, fields

NAME = b"tls-required"
"""In lower case; where a header has it nowhere, there is no such field."""
_HEADER_END = b"\r\n\r\n"


class TLSRequiredField:
    """
    Whether the header says that TLS is not required.

    Whoever says so gives protection up: what is not exactly one field with the value "No", and
    nothing but spaces around it, does not count. Nor does a field behind the first `HEADER_OCTETS`.
    """

    def __init__(self) -> None:
        self._header: bytearray | None = bytearray()  # as far as it is there; None behind its end
        self._says_no = False

    def add(self, chunk: bytes) -> None:
        """The next octets of the message, in wire form."""
        header = self._header
        if header is None:
            return
        # The empty line may have begun in what came before.
        start = max(len(header) - len(_HEADER_END) + 1, 0)
        header += chunk[: HEADER_OCTETS - len(header)]
        end = 0 if header.startswith(b"\r\n") else header.find(_HEADER_END, start)
        if end >= 0:
            self._decide(bytes(header[: end + 2]))
        elif len(header) >= HEADER_OCTETS:
            # A field may have been cut in two.
            self._decide(bytes(header[: header.rfind(b"\r\n") + 2]))

    @property
    def says_no(self) -> bool:
        """To be asked when all of the message is there."""
        if self._header is not None:
            self._decide(bytes(self._header))
        return self._says_no

    def _decide(self, header: bytes) -> None:
        self._header = None
        if NAME in header.lower():  # hardly ever
            values = [value.lower() for name, value in fields(header) if name.lower() == NAME]
            self._says_no = values == [b"no"]
