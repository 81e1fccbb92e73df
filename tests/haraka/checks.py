"""
The form of the checks. In what other tests say of themselves, C{H.19} is check 19.
"""

from attrs import frozen


@frozen
class Check:
    """
    Something that Haraka's tests, or those of its libraries, check.

    @ivar number: from 1 on; tests name it in what they say of themselves.
    @ivar expects: in short.
    @ivar shown_by: tests of ours, without the C{tests.} that all begin with.
    @ivar ours: what is otherwise here on purpose, and why; the tests show ours then.
    @ivar missing: what there is no such thing of yet; the rest, if any, is shown.
    """

    number: int
    expects: str
    shown_by: tuple[str, ...] = ()
    ours: str = ""
    missing: str = ""
