"""What this worker has in hand."""

from collections.abc import Iterable

from twisted.logger import Logger

from harakatls.queued import QueuedMessage
from harakatls.spool.codec import encode
from harakatls.spool.requests import Claimed, Item, SetAside, Settlement

log = Logger()

LONGEST = 21600.0  # seconds that one attempt may take; whoever had the message has lost it then


class Claims:
    """
    The claimed rows by the id of their message, and when each claim is given up.

    A claim ends with its settlement. One that nobody settles, for whatever reason, must not keep
    its message from being delivered for as long as the process lives.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Claimed] = {}
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, message_id: str) -> Claimed | None:
        """None where it is not claimed here."""
        return self._rows.get(message_id)

    def add(self, found: Iterable[Item], now: float) -> tuple[list[QueuedMessage], list[Claimed]]:
        """
        @return: the messages that were claimed, and rows to be released: they have the id of
            another that is in hand, so that it could not be told which of them is settled.
        """
        taken, twins = [], []
        for item in found:
            if isinstance(item, SetAside):
                log.error(
                    "{queue_id} is set aside: {problem}", queue_id=item.id, problem=item.problem
                )
                continue
            row, queued = item
            known = self._rows.get(queued.id)
            if known is not None and known.number != row.number:
                log.warn("another message with the id {queue_id} is in hand", queue_id=queued.id)
                twins.append(row)
                continue
            self._rows[queued.id] = row
            self._until[queued.id] = now + LONGEST
            taken.append(queued)
        return taken, twins

    def settlement(self, queued: QueuedMessage, problem: str | None = None) -> Settlement | None:
        """
        What ends the claim on *queued*.

        @param problem: why it is set aside.
        @return: None where it is not claimed here.
        """
        row = self._rows.get(queued.id)
        if row is None:
            _tell_lost(queued.id)
            return None
        kept = (queued.due, encode(queued)) if queued.pending else None
        return Settlement(queued.id, row, kept, problem)

    def settled(self, settlement: Settlement) -> None:
        """It is on disk, if the claim still held."""
        if self._rows.get(settlement.id) is settlement.claimed:
            del self._rows[settlement.id], self._until[settlement.id]
        if not settlement.result:
            _tell_lost(settlement.id)

    def not_settled(self, message_id: str, until: float) -> None:
        """It could not be recorded: the claim is given up then, unless it is settled before."""
        if message_id in self._rows:
            self._until[message_id] = until

    def give_up(self, now: float) -> dict[str, Claimed]:
        """@return: the rows whose claims are over; they are not in hand any more."""
        over = [message_id for message_id, until in self._until.items() if until <= now]
        for message_id in over:
            del self._until[message_id]
        return {message_id: self._rows.pop(message_id) for message_id in over}

    def take_back(self, rows: dict[str, Claimed], until: float) -> None:
        """They could not be released."""
        self._rows.update(rows)
        self._until.update(dict.fromkeys(rows, until))


def _tell_lost(message_id: str) -> None:
    log.warn(
        "the claim on {queue_id} was lost before its outcome was recorded: it may be delivered "
        "twice",
        queue_id=message_id,
    )
