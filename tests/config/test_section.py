"""Tests for harakatls.config.section."""

from collections.abc import Callable

from attrs.exceptions import FrozenInstanceError
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.section import Section, Value


def section(**values: Value) -> Section:
    return Section("some.ini", "part", values)


class SectionTestCase(SynchronousTestCase):
    def assert_refused(self, getter: Callable[..., object], *words: str) -> None:
        """*getter*, asked for "key", raises an error that holds all *words*."""
        with self.assertRaises(ConfigError) as caught:
            getter("key")
        self.assertEqual((caught.exception.file, caught.exception.section), ("some.ini", "part"))
        for word in words:
            self.assertIn(word, str(caught.exception))


class BooleanTests(SectionTestCase):
    def test_words(self) -> None:
        """All words of Haraka for true and the usual ones for false, in any case, with a ';'."""
        for word in ("true", "yes", "ok", "enabled", "on", "1", "TRUE", "Yes", "true;", "on ;"):
            self.assertIs(section(key=word).boolean("key", False), True, word)
        for word in ("false", "no", "disabled", "off", "0", "FALSE", "No", "false;"):
            self.assertIs(section(key=word).boolean("key", True), False, word)

    def test_default(self) -> None:
        """A key that is not there is what the reader says."""
        self.assertIs(section().boolean("key", True), True)
        self.assertIs(section().boolean("key", False), False)
        self.assertIsNone(section().boolean("key"))

    def test_other_words_are_refused(self) -> None:
        """A typing error cannot switch a protection off."""
        for wrong in ("ture", "", "2", "nein"):
            self.assert_refused(
                section(key=wrong).boolean, f"some.ini [part] key: {wrong!r} is neither true"
            )

    def test_key_without_value_or_as_array_is_refused(self) -> None:
        """A key that was not given one value is told, not guessed."""
        self.assert_refused(section(key=None).boolean, "has no value", "true or false")
        self.assert_refused(section(key=("true",)).boolean, "key[]", "true or false")


class NumberTests(SectionTestCase):
    def test_integer(self) -> None:
        """Whole numbers, with leading zeros, a sign and a trailing ';'."""
        for text, number in (("25", 25), ("007", 7), ("-3", -3), ("465;", 465), ("+1", 1)):
            self.assertEqual(section(key=text).integer("key", 0), number)
        self.assertEqual(section().integer("key", 5), 5)
        self.assertIsNone(section().integer("key"))

    def test_integer_refuses_what_is_none(self) -> None:
        """Neither words, nor fractions, nor the digits of other scripts, nor endless digits."""
        for wrong in ("", "many", "1.5", "0x10", "1 2", "٣", "1_000", "9" * 5000, "10k"):
            self.assert_refused(section(key=wrong).integer, "is not a whole number")

    def test_integer_range(self) -> None:
        """A number out of range is told with the range."""
        values = section(key="70000")
        self.assert_refused(
            lambda key: values.integer(key, 0, 0, 65535), "'70000'", "from 0 to 65535"
        )
        self.assert_refused(
            lambda key: section(key="0").integer(key, 1, minimum=1), "'0'", "of at least 1"
        )
        self.assert_refused(
            lambda key: section(key="9").integer(key, 1, maximum=8), "'9'", "of at most 8"
        )
        self.assertEqual(section(key="8").integer("key", 1, 8, 8), 8)

    def test_seconds(self) -> None:
        """Seconds may have a fraction, and no sign."""
        self.assertEqual(section(key="30").seconds("key", 1), 30.0)
        self.assertEqual(section(key="0.5;").seconds("key", 1), 0.5)
        self.assertEqual(section(key="0").seconds("key", 1), 0.0)
        self.assertEqual(section().seconds("key", 2.5), 2.5)
        for wrong in ("", "a week", "-1", "1e9", "nan", "inf", "30s", ".5", "1.", "9" * 400):
            self.assert_refused(section(key=wrong).seconds, "is not a number of seconds")

    def test_seconds_range(self) -> None:
        """A time that would never end, or end at once where it must not, is refused."""
        self.assert_refused(
            lambda key: section(key="0").seconds(key, 1, minimum=1), "of at least 1"
        )
        self.assert_refused(section(key="9999999999").seconds, "is more than")

    def test_octets(self) -> None:
        """A size is a number, or a number with a unit."""
        for text, size in (
            ("26214400", 26214400),
            ("25M", 26214400),
            ("25MiB", 26214400),
            ("1k", 1024),
            ("1 KB", 1024),
            ("2g", 2 << 30),
            ("0;", 0),
        ):
            self.assertEqual(section(key=text).octets("key", 1), size)
        for wrong in ("", "-1", "big", "1.5M", "1T", "M"):
            self.assert_refused(section(key=wrong).octets, "is not a size in octets")
        self.assert_refused(
            lambda key: section(key="9").octets(key, 10, minimum=10), "of at least 10"
        )


class TextTests(SectionTestCase):
    def test_text_is_kept_as_it_stands(self) -> None:
        """A password keeps its leading zeros, quotes and semicolons."""
        for text in ("0042", '"quoted"', "1;", "", "true"):
            self.assertEqual(section(key=text).text("key", "x"), text)
        self.assertEqual(section().text("key", "x"), "x")
        self.assertIsNone(section().text("key"))

    def test_text_that_is_none(self) -> None:
        """An array or a bare key is no text."""
        self.assert_refused(section(key=("a", "b")).text, "is an array (key[])")
        self.assert_refused(section(key=None).text, "has no value")

    def test_choice(self) -> None:
        """One of the words, in any case, comes back in the reader's spelling."""
        versions = ("TLSv1", "TLSv1.1", "TLSv1.2")
        self.assertEqual(section(key="tlsv1.2;").choice("key", versions, "TLSv1"), "TLSv1.2")
        self.assertEqual(section().choice("key", versions, "TLSv1"), "TLSv1")
        self.assertIsNone(section().choice("key", versions))
        self.assert_refused(
            lambda key: section(key="TLS1.2").choice(key, versions, "TLSv1"),
            "'TLS1.2'",
            "one of TLSv1, TLSv1.1, TLSv1.2",
        )


class ArrayTests(SectionTestCase):
    def test_texts(self) -> None:
        """An array, or a scalar that counts as one; empty entries do not count."""
        self.assertEqual(section(key=("a", "", "b")).texts("key"), ("a", "b"))
        self.assertEqual(section(key="a").texts("key"), ("a",))
        self.assertEqual(section(key="").texts("key"), ())
        self.assertEqual(section().texts("key"), ())
        self.assert_refused(section(key=None).texts, "has no value", "key[]=")

    def test_integers_with_trailing_semicolon(self) -> None:
        """requireAuthorized[]=465; as in the manual really protects port 465."""
        self.assertEqual(section(key=("465;", "587")).integers("key"), (465, 587))
        self.assertEqual(section(key="2525").integers("key"), (2525,))
        self.assertEqual(section().integers("key"), ())
        self.assert_refused(section(key=("465", "smtp")).integers, "'smtp' is not a whole number")
        self.assert_refused(
            lambda key: section(key="99999").integers(key, 1, 65535), "from 1 to 65535"
        )

    def test_hosts(self) -> None:
        """A list of hosts, or an error that names the wrong one."""
        listed = section(key=("192.0.2.0/24;", "example.com")).hosts("key")
        self.assertIn("192.0.2.7", listed)
        self.assertIn("example.com", listed)
        self.assertFalse(section().hosts("key"))
        self.assert_refused(section(key=("10.0.0.0/99",)).hosts, "key: '10.0.0.0/99' is not")

    def test_named_hosts(self) -> None:
        """The bare keys of [no_tls_hosts] are hosts."""
        values: dict[str, Value] = {"192.168.1.3": None, "172.16.0.0/16": None}
        listed = Section("tls.ini", "no_tls_hosts", values)
        self.assertIn("172.16.5.5", listed.named_hosts())
        self.assertEqual(listed.unread(), ())
        with self.assertRaises(ConfigError) as caught:
            Section("tls.ini", "no_tls_hosts", {"1.2.3": None}).named_hosts()
        self.assertTrue(
            str(caught.exception).startswith("tls.ini [no_tls_hosts]: '1.2.3' is not an address")
        )


class KeysTests(SectionTestCase):
    def test_names_keep_their_order(self) -> None:
        """Sections whose keys are data are read in the operator's order."""
        values: dict[str, Value] = {"b": None, "a": "1", "c": ("x",)}
        self.assertEqual(Section("f", "main", values).names(), ("b", "a", "c"))

    def test_contains(self) -> None:
        """A bare key is there, although it has no value."""
        values = section(key=None)
        self.assertIn("key", values)
        self.assertNotIn("other", values)
        self.assertNotIn(1, values)

    def test_unread_keys(self) -> None:
        """What no reader asked for can be told to the operator; looking does not count."""
        values = section(ciphers="HIGH", cyphers="LOW", other="1")
        self.assertIn("other", values)
        values.text("ciphers")
        values.boolean("absent", False)
        self.assertEqual(values.unread(), ("cyphers", "other"))
        self.assertEqual(
            values.unknown(),
            (
                "some.ini [part] cyphers: unknown key; did you mean ciphers?",
                "some.ini [part] other: unknown key",
            ),
        )

    def test_guess_ignores_case(self) -> None:
        """A key in the wrong case is led to the right one."""
        values = section(minversion="TLSv1.2")
        values.text("minVersion")
        self.assertIn("did you mean minVersion?", values.unknown()[0])

    def test_warnings(self) -> None:
        """A key without effect is told once, and is not unknown as well."""
        values = section(nodes="4")
        values.unsupported({"nodes": "there is one process", "daemonize": "use twistd"})
        values.warn(None, "is odd")
        self.assertEqual(
            values.warnings,
            [
                "some.ini [part] nodes: has no effect in harakatls; there is one process",
                "some.ini [part]: is odd",
            ],
        )
        self.assertEqual(values.unknown(), ())

    def test_frozen(self) -> None:
        """A section cannot be changed after it was read."""
        with self.assertRaises(FrozenInstanceError):
            section().name = "other"  # type: ignore[misc]

    def test_repr_hides_values(self) -> None:
        """A section in a log line shows no password."""
        self.assertNotIn("hunter2", repr(section(auth_pass="hunter2")))
