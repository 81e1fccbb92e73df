"""A start that cannot be made, told in one line."""

import sys
from types import TracebackType


class StartFailure(Exception):
    """The server cannot start; the text is one line for the operator."""


def tell_in_one_line() -> None:
    """
    Let a `StartFailure` that ends the process be told without a traceback.

    twistd removes its pidfile and tells its parent process when a service fails to start with an
    exception, but not when with SystemExit; and then it lets Python print the exception.
    """
    ordinary = sys.excepthook

    def tell(
        kind: type[BaseException], problem: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(problem, StartFailure):
            print(f"harakatls: {problem}", file=sys.__stderr__, flush=True)
        else:
            ordinary(kind, problem, traceback)

    sys.excepthook = tell
