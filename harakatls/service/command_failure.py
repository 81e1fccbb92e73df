"""How a command of the operator fails, and how it warns."""

import sys

from harakatls.service.logs import printable


class CommandFailure(Exception):
    """
    The command could not be done; the text is one line for the operator.

    @ivar status: the exit status.
    """

    status = 1


def warn(text: str) -> None:
    """On stderr, so that the list itself can be read by programs."""
    print(f"harakatls: warning: {printable(text)}", file=sys.stderr)
