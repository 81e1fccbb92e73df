"""Tests of the bar for those who wait."""

import io

from twisted.trial.unittest import SynchronousTestCase

from harakatls.service import progress
from harakatls.service.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ProgressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(progress, "_EVERY", 0.0)

    def test_on_a_terminal(self) -> None:
        """How far it is; nothing of it is left at the end."""
        terminal = Terminal()
        with Progress(2000, terminal) as shown:
            shown.done(500)
            self.assertIn("25%  500 of 2,000", terminal.getvalue())
            shown.done(1500)
            self.assertIn("100%  2,000 of 2,000", terminal.getvalue())
            shown.done(5)  # more has come meanwhile
            self.assertIn("100%  2,005", terminal.getvalue())
        self.assertTrue(terminal.getvalue().endswith("\r\x1b[K"))
        self.assertNotIn("\n", terminal.getvalue())

    def test_elsewhere(self) -> None:
        """A file or a pipe gets none of it."""
        stream = io.StringIO()
        with Progress(2, stream) as shown:
            shown.done(2)
        self.assertEqual(stream.getvalue(), "")

    def test_nothing_to_do(self) -> None:
        """No division by zero."""
        terminal = Terminal()
        with Progress(0, terminal) as shown:
            shown.done(0)
        with Progress(0, terminal):
            pass
        self.assertIn("100%  0 of 0", terminal.getvalue())

    def test_not_too_often(self) -> None:
        """The bar costs nothing beside the work."""
        self.patch(progress, "_EVERY", 1e9)
        terminal = Terminal()
        with Progress(1000, terminal) as shown:
            for _ in range(1000):
                shown.done()
        self.assertLessEqual(terminal.getvalue().count("["), 2)
