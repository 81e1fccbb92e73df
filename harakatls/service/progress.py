"""A bar for those who wait before a terminal."""

import sys
import time
from typing import TextIO

_EVERY = 0.1  # seconds
_WIDTH = 30


class Progress:
    """Drawn on standard error, and only if that is a terminal; gone when it has ended."""

    def __init__(self, of_all: int, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._all = of_all
        self._done = 0
        self._drawn_at = 0.0
        self._shown = self._stream.isatty()
        self._drawn = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def done(self, count: int = 1) -> None:
        """So many more."""
        self._done += count
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._drawn_at < _EVERY:
            return
        self._drawn_at = now
        self._drawn = True
        share = min(1.0, self._done / self._all) if self._all else 1.0
        bar = "#" * int(share * _WIDTH)
        self._stream.write(f"\r[{bar:.<{_WIDTH}}] {share:4.0%}  {self._done:,} of {self._all:,}")
        self._stream.flush()
