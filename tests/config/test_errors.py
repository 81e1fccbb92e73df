"""Tests for harakatls.config.errors."""

import pickle

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError, place, shown


class ConfigErrorTests(SynchronousTestCase):
    def test_text_names_file_section_key_and_problem(self) -> None:
        """An operator reads in one line where to look and what to write."""
        error = ConfigError(
            "tls.ini", "redis", "disable_expiry", "'a week' is not a number of seconds"
        )
        self.assertEqual(
            str(error), "tls.ini [redis] disable_expiry: 'a week' is not a number of seconds"
        )
        self.assertEqual(
            (error.file, error.section, error.key, error.problem),
            ("tls.ini", "redis", "disable_expiry", "'a week' is not a number of seconds"),
        )

    def test_main_section_is_not_named(self) -> None:
        """Keys that stand without a header are named without one."""
        self.assertEqual(
            str(ConfigError("smtp.ini", "main", "listen", "is wrong")), "smtp.ini listen: is wrong"
        )

    def test_file_alone(self) -> None:
        """An error about a whole file has no empty words in it."""
        self.assertEqual(str(ConfigError("me", None, None, "is wrong")), "me: is wrong")
        self.assertEqual(place("tls.ini", "outbound"), "tls.ini [outbound]")

    def test_survives_pickling(self) -> None:
        """An error raised in a worker arrives whole in its parent."""
        error = pickle.loads(pickle.dumps(ConfigError("a.ini", "b", "c", "d")))
        self.assertEqual(str(error), "a.ini [b] c: d")

    def test_shown_value_is_short_and_harmless(self) -> None:
        """A wrong value can neither flood a log nor send escapes to a terminal."""
        self.assertEqual(shown("\x1b[31m"), r"'\x1b[31m'")
        self.assertLess(len(shown("x" * 10000)), 70)
