"""Who is told of changes in a queue."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from attrs import Factory, frozen
from twisted.logger import Logger

log = Logger()


@frozen
class Listeners:
    """
    To be used in the reactor's thread only.

    @ivar of_mail: told when messages may be claimed.
    @ivar of_flushes: told before that, when the operator wants mail to be tried now.
    """

    of_mail: list[Callable[[Collection[str] | None], None]] = Factory(list)
    of_flushes: list[Callable[[], None]] = Factory(list)

    def tell_of_mail(self, domains: Collection[str] | None = None) -> None:
        """
        There is more to claim.

        @param domains: for these; None where it may be for any.
        """
        _tell(self.of_mail, domains)

    def tell_of_flush(self) -> None:
        """The operator wants mail to be tried now."""
        _tell(self.of_flushes)
        self.tell_of_mail()


def _tell(everybody: Sequence[Callable[..., None]], *facts: Any) -> None:
    for told in everybody:
        try:
            told(*facts)
        except Exception:
            log.failure("could not tell {told} of messages in the queue", told=told)
