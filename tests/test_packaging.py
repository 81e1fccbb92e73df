"""What setup.cfg says is installed is what there is."""

from configparser import ConfigParser
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from tests.support import REPOSITORY


class PackagingTests(SynchronousTestCase):
    """Of the files alone; tests.interop.test_install installs them."""

    def test_every_room_is_installed(self) -> None:
        """A new room that nobody listed would be missing from every installed server."""
        setup = ConfigParser()
        setup.read(REPOSITORY / "setup.cfg")
        listed = set(setup["options"]["packages"].split())
        rooms = {
            ".".join(path.parent.relative_to(REPOSITORY).parts)
            for path in (REPOSITORY / "harakatls").rglob("__init__.py")
        }
        self.assertEqual(listed, rooms | {"harakatls.samples", "twisted.plugins"})

    def test_samples_are_found_in_a_checkout(self) -> None:
        """`harakatls init` finds the commented files where nothing was installed."""
        self.assertTrue((files("harakatls.samples") / "smtp.ini").is_file())
