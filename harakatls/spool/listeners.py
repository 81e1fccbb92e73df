"""Who is told of changes in a queue."""

from collections.abc import Callable

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

    of_mail: list[Callable[[], None]] = Factory(list)
    of_flushes: list[Callable[[], None]] = Factory(list)

    def tell_of_mail(self) -> None:
        """There is more to claim."""
        _tell(self.of_mail)

    def tell_of_flush(self) -> None:
        """The operator wants mail to be tried now."""
        _tell(self.of_flushes)
        _tell(self.of_mail)


def _tell(everybody: list[Callable[[], None]]) -> None:
    for told in everybody:
        try:
            told()
        except Exception:
            log.failure("could not tell {told} of messages in the queue", told=told)
