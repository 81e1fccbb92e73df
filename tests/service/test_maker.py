"""Tests for what twistd is given: what becomes of SIGHUP."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.service import maker


class Told:
    """In place of the server and the reactor."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def reload(self) -> None:
        self.heard.append("reload")

    def stop(self) -> None:
        self.heard.append("stop")


class HangupTests(SynchronousTestCase):
    def told(self, had_terminal: bool, has_terminal: bool) -> list[str]:
        self.patch(maker, "_has_terminal", lambda: has_terminal)
        told = Told()
        maker._hang_up(told, told, had_terminal)  # type: ignore[arg-type]
        return told.heard

    def test_reload(self) -> None:
        """Who sends SIGHUP wants the files to be read anew, with a terminal or without."""
        self.assertEqual(self.told(True, True), ["reload"])
        self.assertEqual(self.told(False, False), ["reload"])

    def test_terminal_closed(self) -> None:
        """Who closes the terminal that the server runs in does not leave it running unseen."""
        self.assertEqual(self.told(True, False), ["stop"])
