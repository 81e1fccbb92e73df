"""
Octets that are waiting to be understood, as lines or as they are.

A line ends in CRLF and nothing else (RFC 5321 section 2.3.8): servers that take a bare LF or CR
for the end of a line do not see the same commands as those that do not (SMTP smuggling).
"""

# Octets of one line that are thrown away before the peer is given up.
ABSURD_LINE = 65536
_CR = 13


class BadLine(Exception):
    """
    A line that cannot be read. It is passed over, up to its CRLF.

    @ivar is_too_long: it has more octets than were allowed; else a bare LF.
    @ivar is_endless: it is so long that the peer is no sender of lines; where it is not a line that
        is too long, it is what nobody wants (`LineBuffer.pass_by`).
    """

    def __init__(self, problem: str, is_too_long: bool, is_endless: bool = False) -> None:
        super().__init__(problem)
        self.is_too_long = is_too_long
        self.is_endless = is_endless


class LineBuffer:
    """
    Takes octets in any pieces; gives lines, or large pieces, in linear time.

    What is held is what was appended and not yet asked for; of a line that is too long nothing is
    held.
    """

    __slots__ = (
        "_data",
        "_later",
        "_most_unwanted",
        "_offset",
        "_passed_over",
        "_passing",
        "_unwanted",
    )

    def __init__(self) -> None:
        self._data = b""
        self._offset = 0  # where the next line starts in _data
        self._later: list[bytes] = []  # what was appended behind _data
        self._passing = False  # the rest of a bad line, or of what nobody wants, is not there yet
        self._passed_over = 0  # octets of it
        self._unwanted = 0  # octets that are still to be passed by
        self._most_unwanted = 0

    def __bool__(self) -> bool:
        """There is something."""
        return self._offset < len(self._data) or bool(self._later)

    def append(self, data: bytes) -> None:
        """Put *data* at the end."""
        if self._offset == len(self._data) and not self._later:
            self._data = data
            self._offset = 0
        elif data:
            self._later.append(data)

    def clear(self) -> None:
        """Throw everything away."""
        self._data = b""
        self._offset = self._passed_over = self._unwanted = 0
        self._later.clear()
        self._passing = False

    def pass_by(self, octets: int, most: int) -> None:
        """
        Throw the next *octets* away, as they come, before another line is read.

        @param most: where more of them than these have come, `next_line` raises BadLine.
        """
        self._unwanted, self._most_unwanted = octets, most
        self._passing = octets > 0

    def starts_with(self, prefix: bytes) -> bool:
        """
        Whether the next line does, as far as it is there.

        @raise BadLine: as `next_line`.
        """
        if self._passing:
            self._pass_over()
        elif self._later:
            self._merge()
        return not self._passing and self._data.startswith(prefix, self._offset)

    def next_line(self, limit: int) -> bytes | None:
        """
        The next line without its CRLF; None where it is not complete.

        @param limit: octets of a line, with its CRLF.
        @raise BadLine: it is longer, or has a bare LF. Raised as soon as that is seen. A bare CR is
            left to those who know what may stand in the line.
        """
        if self._passing:
            self._pass_over()
            if self._passing:
                return None
        end = self._data.find(b"\n", self._offset)
        if end < 0 and self._later:
            self._merge()
            end = self._data.find(b"\n", self._offset)
        data, start = self._data, self._offset
        if end < 0:
            if len(data) - start >= limit:
                self._passing = True
                raise BadLine("line too long", is_too_long=True)
            if start == len(data):
                self._data = b""  # an idle session keeps nothing
                self._offset = 0
            return None
        if end - start >= limit:
            self._passing = True
            raise BadLine("line too long", is_too_long=True)
        self._offset = end + 1
        if end == start or data[end - 1] != _CR:
            self._passing = True
            raise BadLine("bare LF", is_too_long=False)
        return data[start : end - 1]

    def take(self, limit: int) -> bytes:
        """Up to *limit* octets, whatever they are; b"" where there are none."""
        if self._offset == len(self._data) and self._later:
            self._merge()
        data, start = self._data, self._offset
        if start == 0 and len(data) <= limit:
            self._offset = len(data)
            return data
        taken = data[start : start + limit]
        self._offset = start + len(taken)
        return taken

    def give_back(self, octets: int) -> None:
        """Of what was taken the last *octets* are still to be understood; the rest is done with."""
        self._offset -= octets
        if self._offset == len(self._data):
            self._data = b""  # nothing is kept while the rest of a message is waited for
            self._offset = 0

    def _merge(self) -> None:
        self._data = b"".join((self._data[self._offset :], *self._later))
        self._offset = 0
        self._later.clear()

    def _pass_over(self) -> None:
        if self._later:
            self._merge()
        if self._unwanted:
            self._pass_unwanted()
            return
        data, start = self._data, self._offset
        end = data.find(b"\r\n", start)
        if end >= 0:
            self._passed_over += end - start
            self._offset = end + 2
            self._passing = False
        else:
            kept = 1 if data.endswith(b"\r", start) else 0  # LF may follow
            self._passed_over += len(data) - start - kept
            self._data = b"\r" if kept else b""
            self._offset = 0
        if self._passed_over > ABSURD_LINE:
            raise BadLine("a line without an end", is_too_long=True, is_endless=True)
        if not self._passing:
            self._passed_over = 0

    def _pass_unwanted(self) -> None:
        octets = min(len(self._data) - self._offset, self._unwanted)
        self._offset += octets
        self._unwanted -= octets
        self._passed_over += octets
        if self._offset == len(self._data):
            self._data = b""
            self._offset = 0
        if self._passed_over > self._most_unwanted:
            raise BadLine("more than is passed by", is_too_long=False, is_endless=True)
        if not self._unwanted:
            self._passing = False
            self._passed_over = 0
