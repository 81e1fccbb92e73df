"""How much of messages under way may be in memory: less of each, the more of them there are."""

# Octets of one message that gather before they are written to a file: each time a thread has to be
# woken, which costs as much as to receive 64 KiB; more than this would not stay in the cache of the
# processor.
GATHERED = 1 << 19
GATHERED_IN_ALL = 1 << 25  # octets of all messages; a few times that, if all come at once
LEAST = 1 << 14  # octets of each, however many there are
_MANY = GATHERED_IN_ALL // GATHERED


class Gathering:
    """
    Counts what is held of the messages of one spool.

    @ivar each: octets of one message that may be held before it goes to its file.
    @ivar held: octets that are held of all.
    """

    __slots__ = ("_has_files", "_messages", "each", "held")

    def __init__(self, has_files: bool = True) -> None:
        """@param has_files: else everything stays in memory."""
        self.each: float = GATHERED if has_files else float("inf")
        self.held = 0
        self._has_files = has_files
        self._messages = 0

    def begin(self) -> None:
        """One message more."""
        self._messages += 1
        if self._messages > _MANY:
            self._divide()

    def end(self, octets: int) -> None:
        """@param octets: that are still held of it."""
        self._messages -= 1
        self.held -= octets
        if self._messages >= _MANY:
            self._divide()

    def _divide(self) -> None:
        if self._has_files:
            self.each = max(LEAST, min(GATHERED, GATHERED_IN_ALL // self._messages))
