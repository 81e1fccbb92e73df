"""What the tests of settings share: tls.ini as a text, and what becomes of it."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config


class SettingsTestCase(SynchronousTestCase):
    def load(self, text: str, **files: str) -> TLSSettings:
        """tls.ini with this text, and other files by name (``_`` for the dot)."""
        named = {name.replace("_pem", ".pem"): content for name, content in files.items()}
        self.config = write_config(self, {"tls.ini": text, **named})
        return TLSSettings.load(self.config)

    def assert_refused(self, text: str, *words: str) -> None:
        """A ConfigError whose text has all *words*."""
        with self.assertRaises(ConfigError) as caught:
            self.load(text)
        self.assertEqual(caught.exception.file, "tls.ini")
        for word in words:
            self.assertIn(word, str(caught.exception))

    def assert_warned(self, text: str, *words: str) -> TLSSettings:
        """One warning, with all *words*."""
        settings = self.load(text)
        self.assertEqual(len(self.config.warnings), 1, self.config.warnings)
        for word in words:
            self.assertIn(word, self.config.warnings[0])
        return settings
