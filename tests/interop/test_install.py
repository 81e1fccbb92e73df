"""`pip install .` into an empty virtual environment gives a whole server."""

from tests.interop.installed import InstalledTestCase
from tests.support import temporary_directory


class InstallTests(InstalledTestCase):
    def test_installed(self) -> None:
        """twistd knows the server, and init writes the commented files, far from any checkout."""
        where = self.output(
            self.bin / "python", "-c", "import harakatls; print(harakatls.__file__)"
        )
        self.assertTrue(where.startswith(str(self.bin.parent)), where)
        self.assertIn("harakatls", self.output(*self.twistd, "--help"))
        instance = temporary_directory() / "instance"
        self.output(self.bin / "harakatls", "init", "--host", "new.test", instance)
        self.assertIn("# smtp.ini", (instance / "config/smtp.ini").read_text())
        plugins = self.output(self.bin / "harakatls", "plugins", "--config", instance / "config")
        self.assertIn("queue/maildir", plugins)
