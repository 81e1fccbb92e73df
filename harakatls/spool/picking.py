"""
Which of the due messages are taken next: the longest due, but of no domain more than it has room.

The queue is never read as a whole. First comes a window of the order of dues. Where that is full
of mail for domains without room, the domains are gone through one after the other, each round
beginning where the last one ended: so nothing waits behind the mail of another domain, however
much that is.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define, evolve, field, frozen

WINDOW = 512  # rows that are looked at in the order of their dues
STEPS = 256  # domains that are looked at in one transaction; a round takes as many as it needs
REST = 10  # a round that has found nothing is followed by a rest so many times as long

# Nobody has it in hand, and it may be taken when it is due; the indexes hold these rows alone.
FREE = "claimed_by IS NULL AND problem IS NULL AND held = 0"

_DUE = f"""
SELECT number, domain FROM message INDEXED BY message_due
WHERE due <= ? AND {FREE} ORDER BY due, number LIMIT ?
"""  # noqa: S608
_DUE_OF_DOMAIN = f"""
SELECT number FROM message INDEXED BY message_domain
WHERE domain = CAST(? AS TEXT) AND due <= ? AND {FREE} ORDER BY due, number LIMIT ?
"""  # noqa: S608
# Each domain is one look into the index, however many messages it has.
_DOMAINS = f"""
WITH RECURSIVE line (domain) AS (
    SELECT min(domain) FROM message INDEXED BY message_domain
    WHERE {FREE} AND domain >= CAST(? AS TEXT)
    UNION ALL
    SELECT (SELECT min(domain) FROM message INDEXED BY message_domain
            WHERE {FREE} AND domain > line.domain)
    FROM line WHERE line.domain IS NOT NULL LIMIT ?
)
SELECT domain, (SELECT min(due) FROM message INDEXED BY message_domain
                WHERE {FREE} AND domain = line.domain)
FROM line WHERE domain IS NOT NULL
"""  # noqa: S608
_FIRST_DUES = f"""
SELECT due, domain FROM message INDEXED BY message_due WHERE {FREE} ORDER BY due, number LIMIT ?
"""  # noqa: S608
_HASTEN = f"""
UPDATE message SET due = ?1 WHERE number IN (
    SELECT number FROM message INDEXED BY message_due
    WHERE due > ?1 AND {FREE} ORDER BY due LIMIT ?2)
"""  # noqa: S608
_HASTEN_DOMAIN = f"""
UPDATE message SET due = ?1 WHERE number IN (
    SELECT number FROM message INDEXED BY message_domain
    WHERE domain = ?2 AND due > ?1 AND {FREE} ORDER BY due LIMIT ?3)
"""  # noqa: S608


@frozen
class Round:
    """
    Where a round through the domains is.

    @ivar start: the domain that it began with; it ends before that.
    @ivar position: the next domain, or one before that.
    @ivar wrapped: it has come to the last domain and gone on with the first.
    @ivar spent: seconds.
    @ivar barren: it has found nothing so far.
    """

    start: bytes
    position: bytes
    wrapped: bool = False
    spent: float = 0.0
    barren: bool = True


@frozen
class Wanted:
    """
    What is to be taken.

    @ivar domains: only mail for these; None for all.
    @ivar rooms: how many more there may be of each of these.
    @ivar per_domain: the same for all others; None for any number.
    @ivar shared: how many more there may be of the domains of each group, in all.
    @ivar groups: which group a domain is of, as an index of *shared*.
    @ivar round: where to go on; None to begin with what is due first.
    """

    now: float
    domains: Sequence[bytes] | None = None
    rooms: Mapping[bytes, int] = {}
    per_domain: int | None = None
    shared: Sequence[int] = ()
    groups: Mapping[bytes, int] = {}
    round: Round | None = None

    @classmethod
    def of(
        cls,
        now: float,
        domains: Collection[str] | None,
        rooms: Mapping[str, int],
        per_domain: int | None,
        together: Sequence[tuple[int, Collection[str]]],
    ) -> "Wanted":
        """With names as the database gives them."""
        return cls(
            now,
            None if domains is None else [name.encode() for name in domains],
            {name.encode(): room for name, room in rooms.items()},
            per_domain,
            [room for room, _ in together],
            {name.encode(): at for at, (_, names) in enumerate(together) for name in names},
        )

    def with_room_for(self, domain: bytes) -> "Wanted":
        """One of this domain was taken and is not to count."""
        if domain not in self.rooms:
            return self
        rooms, shared = {**self.rooms, domain: self.rooms[domain] + 1}, list(self.shared)
        if domain in self.groups:
            shared[self.groups[domain]] += 1
        return evolve(self, rooms=rooms, shared=shared)


@define
class _Picked:
    """What has been found, and how much room is left."""

    limit: int
    each: int
    rooms: dict[bytes, int]
    shared: list[int]
    groups: Mapping[bytes, int]
    numbers: list[int] = field(factory=list)

    def room(self, domain: bytes) -> int:
        room = min(self.rooms.get(domain, self.each), self.limit - len(self.numbers))
        group = self.groups.get(domain)
        return room if group is None else min(room, self.shared[group])

    def add(self, domain: bytes, *numbers: int) -> None:
        self.numbers += numbers
        self.rooms[domain] = self.rooms.get(domain, self.each) - len(numbers)
        group = self.groups.get(domain)
        if group is not None:
            self.shared[group] -= len(numbers)


class Picker:
    """Remembers where rounds end. Nothing that it remembers is wrong after a rollback."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._next_start = b""
        self._rest_until = float("-inf")

    def pick(
        self, connection: sqlite3.Connection, wanted: Wanted, limit: int
    ) -> tuple[list[int], Wanted, bool]:
        """
        One look. What it finds is to be claimed before the next.

        @return: the numbers of rows; what is wanted beside them; there is nothing else.
        """
        each = sys.maxsize if wanted.per_domain is None else wanted.per_domain
        picked = _Picked(limit, each, dict(wanted.rooms), list(wanted.shared), wanted.groups)
        turn, ended = wanted.round, False
        if wanted.domains is not None:
            for domain in wanted.domains:
                _take_due(connection, wanted.now, picked, domain)
            ended = True
        elif turn is not None:
            turn = self._step(connection, wanted.now, picked, turn)
            ended = turn is None
        elif not _window(connection, wanted.now, picked):
            ended = True
        elif 2 * len(picked.numbers) < WINDOW:  # else the next window will have much, too
            ended = self._seconds() < self._rest_until
            turn = None if ended else Round(self._next_start, self._next_start)
            if turn is not None and not picked.numbers:
                # There is nothing to claim before, so it need not wait for another transaction.
                turn = self._step(connection, wanted.now, picked, turn)
                ended = turn is None
        rest = evolve(wanted, rooms=picked.rooms, shared=picked.shared, round=turn)
        return picked.numbers, rest, ended

    def _step(
        self, connection: sqlite3.Connection, now: float, picked: _Picked, turn: Round
    ) -> Round | None:
        """@return: what is left of the round; None after its end."""
        began = self._seconds()
        found = connection.execute(_DOMAINS, (turn.position, STEPS)).fetchall()
        ended = False
        for domain, due in found:
            if turn.wrapped and domain >= turn.start:
                ended = True
                break
            if due <= now:
                _take_due(connection, now, picked, domain)
            turn = evolve(turn, position=domain + b"\0")
            if len(picked.numbers) == picked.limit:
                break
        else:
            if len(found) < STEPS:
                ended = turn.wrapped or not turn.start
                turn = evolve(turn, position=b"", wrapped=True)
        self._next_start = turn.position
        turn = evolve(
            turn,
            spent=turn.spent + self._seconds() - began,
            barren=turn.barren and not picked.numbers,
        )
        if not ended:
            return turn
        if turn.barren:
            self._rest_until = self._seconds() + REST * turn.spent
        return None


def _take_due(connection: sqlite3.Connection, now: float, picked: _Picked, domain: bytes) -> None:
    room = picked.room(domain)
    if room > 0:
        rows = connection.execute(_DUE_OF_DOMAIN, (domain, now, room)).fetchall()
        picked.add(domain, *[number for (number,) in rows])


def _window(connection: sqlite3.Connection, now: float, picked: _Picked) -> bool:
    """@return: there is more due behind it, and more is wanted."""
    seen = 0
    rows = connection.execute(_DUE, (now, WINDOW))
    for number, domain in rows:
        seen += 1
        if picked.room(domain) > 0:
            picked.add(domain, number)
            if len(picked.numbers) == picked.limit:
                rows.close()
                return False
    return seen == WINDOW


def first_due(connection: sqlite3.Connection, excluded: frozenset[bytes]) -> float | None:
    """
    When the first message is due that is for none of the *excluded* domains.

    @return: may be too early, where that cannot be told without reading far; None with none.
    """
    due, seen = None, 0
    rows = connection.execute(_FIRST_DUES, (WINDOW,))
    for due, domain in rows:
        seen += 1
        if domain not in excluded:
            rows.close()
            return float(due)
    return due if seen == WINDOW else None


def hasten(connection: sqlite3.Connection, domain: str | None, now: float, most: int) -> int:
    """
    Let rows be due now that would be later.

    @param domain: None for all domains.
    @return: how many rows were changed, *most* or less; less than that were all.
    """
    if domain is None:
        return connection.execute(_HASTEN, (now, most)).rowcount
    return connection.execute(_HASTEN_DOMAIN, (now, domain, most)).rowcount
