"""Tests for harakatls.config.ini."""

import string

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.ini import Ini


def ini(*lines: str) -> Ini:
    return Ini.parse("x.ini", "\n".join(lines))


class GrammarTests(SynchronousTestCase):
    def assert_clean(self, parsed: Ini) -> None:
        """Nothing was skipped. (What was not read yet does not count.)"""
        self.assertEqual([line for line in parsed.warnings if "unknown" not in line], [])

    def test_line_ends(self) -> None:
        """A file from any system reads the same."""
        for end in ("\r\n", "\r", "\n"):
            parsed = Ini.parse("x.ini", end.join(("a=1", "[s]", "b=2", "")))
            self.assertEqual(parsed.main.text("a"), "1")
            self.assertEqual(parsed.section("s").text("b"), "2")

    def test_comments(self) -> None:
        """Lines that begin with ; or #, after any blanks, say nothing."""
        parsed = ini("; a=1", "# a=2", "  ;a=3", "\t# [s]", "", "   ")
        self.assertEqual(parsed.sections(), ())
        self.assert_clean(parsed)

    def test_inline_comment(self) -> None:
        """' ;' begins a comment behind a value, a bare key, a header; ';' alone and '#' do not."""
        parsed = ini("a=1 ; x", "b=x;y;", "c=x # y", "[s] ; x", "10.0.0.1\t; broken", "d= ; x")
        self.assertEqual(parsed.main.integer("a"), 1)
        self.assertEqual(parsed.main.text("b"), "x;y;")
        self.assertEqual(parsed.main.text("c"), "x # y")
        self.assertEqual(parsed.section("s").text("d"), "")
        self.assertEqual(parsed.section("s").names(), ("10.0.0.1", "d"))
        self.assert_clean(parsed)

    def test_sections(self) -> None:
        """Headers are trimmed, count as written, and may come again."""
        parsed = ini("a=1", "[ one ]", "b=2", "[One]", "b=3", "[one]", "c=4", "[main]", "d=5")
        self.assertEqual(parsed.sections(), ("main", "one", "One"))
        self.assertEqual(parsed.main.names(), ("a", "d"))
        self.assertEqual(parsed.section("one").names(), ("b", "c"))
        self.assertEqual(parsed.section("One").text("b"), "3")
        self.assertEqual(parsed.section("absent").names(), ())

    def test_keys(self) -> None:
        """Addresses and networks of both families are keys."""
        parsed = ini("192.168.1.3", "2001:db8::/32", "a+b@c-d_e = 1", "a/b.[x]=2")
        self.assertEqual(
            parsed.main.names(), ("192.168.1.3", "2001:db8::/32", "a+b@c-d_e", "a/b.[x]")
        )
        self.assert_clean(parsed)

    def test_values(self) -> None:
        """The first '=' divides, blanks around do not count, quotes are part of the value."""
        parsed = ini('  a =  "x = y"  ', "b=", 'c = {"action":"accept"}', "d=0042")
        self.assertEqual(parsed.main.text("a"), '"x = y"')
        self.assertEqual(parsed.main.text("b"), "")
        self.assertEqual(parsed.main.text("c"), '{"action":"accept"}')
        self.assertEqual(parsed.main.text("d"), "0042")

    def test_arrays(self) -> None:
        """key[] appends; of a scalar and an array of one name the later one counts."""
        parsed = ini("a[]=1", "a[] = 2", "b=0", "b[]=1", "c[]=1", "c=2")
        self.assertEqual(parsed.main.texts("a"), ("1", "2"))
        self.assertEqual(parsed.main.texts("b"), ("1",))
        self.assertEqual(parsed.main.text("c"), "2")
        self.assertEqual(
            parsed.warnings,
            (
                "x.ini line 4: b[] discards the b before it",
                "x.ini line 6: c is given again; only this one counts",
            ),
        )

    def test_last_scalar_wins(self) -> None:
        """A value given twice is the last one, and the operator learns of it."""
        parsed = ini("a=1", "a=2", "b=1", "b=1")
        self.assertEqual(parsed.main.text("a"), "2")
        self.assertEqual(parsed.main.text("b"), "1")
        self.assertEqual(parsed.warnings, ("x.ini line 2: a is given again; only this one counts",))

    def test_continuation(self) -> None:
        """A trailing backslash joins the next line that says something, with nothing between."""
        parsed = ini("a=1,\\", "; comment", "", "  2,\\  ", "3 ; end", "b=4")
        self.assertEqual(parsed.main.text("a"), "1,  2,3")
        self.assertEqual(parsed.main.text("b"), "4")
        self.assert_clean(parsed)

    def test_continuation_that_does_not_go_on(self) -> None:
        """A header or the end of the file ends a value; nothing of it is lost."""
        parsed = ini("a=1\\", "[s]", "b=2\\")
        self.assertEqual(parsed.main.text("a"), "1")
        self.assertEqual(parsed.section("s").text("b"), "2")
        self.assertEqual(
            parsed.warnings,
            (
                "x.ini line 1: the line ends in a backslash, but a section follows",
                "x.ini line 3: the line ends in a backslash, but nothing follows",
            ),
        )

    def test_backslashes_alone(self) -> None:
        """Lines with a backslash alone say nothing."""
        self.assertEqual(ini("\\", "\\", "a=1").main.text("a"), "1")
        self.assertEqual(ini("\\", "[s]", " \\").sections(), ("s",))

    def test_wildcards(self) -> None:
        """Where the keys are hosts, they may have a star."""
        parsed = ini("*.example.com", "*.example.net=x")
        self.assertEqual(parsed.main.names(), ("*.example.com", "*.example.net"))
        self.assertTrue(parsed.main.is_bare("*.example.com"))
        self.assertFalse(parsed.main.is_bare("*.example.net"))
        self.assertFalse(parsed.main.is_bare("*.example.org"))

    def test_invalid_lines(self) -> None:
        """A line that cannot be read is skipped and told by its number, without its value."""
        parsed = ini("joe smith=hunter2", "a(b)", "=5", "[]", "a[]", "hunter2 is secret", "ok=1")
        self.assertEqual(parsed.main.names(), ("ok",))
        self.assertEqual(len(parsed.warnings), 6)
        for number, (word, warning) in enumerate(
            zip(
                ("'joe smith'", "'a(b)'", "''", "'[]'", "'a[]'", "'hunter2'"),
                parsed.warnings,
                strict=True,
            ),
            1,
        ):
            self.assertTrue(warning.startswith(f"x.ini line {number}: {word} is neither"), warning)
        self.assertNotIn("hunter2", parsed.warnings[0])


class WarningTests(SynchronousTestCase):
    def test_unknown_keys_and_sections(self) -> None:
        """What nobody reads is told, once all have read."""
        parsed = ini("listen=x", "lisen=y", "[extra]", "a=1", "[empty]")
        parsed.main.text("listen")
        self.assertEqual(
            parsed.warnings,
            (
                "x.ini lisen: unknown key; did you mean listen?",
                "x.ini [extra]: unknown section",
            ),
        )
        parsed.section("extra").text("a")
        self.assertEqual(len(parsed.warnings), 1)

    def test_keys_above_the_only_section(self) -> None:
        """A key that landed before the header, where nobody reads, is told by its name."""
        parsed = ini("a=1", "[s]", "b=2")
        parsed.section("s").text("b")
        self.assertEqual(parsed.warnings, ("x.ini a: unknown key",))
        self.assertEqual(parsed.unknown, parsed.warnings)

    def test_leave_out(self) -> None:
        """Without a key that is wrong, what else is wrong can be found."""
        parsed = Ini.parse("x.ini", "a=1\nb=2\n[s]\na=3\n")
        self.assertTrue(parsed.leave_out("main", "a"))
        self.assertFalse(parsed.leave_out("main", "a"))
        self.assertFalse(parsed.leave_out("nowhere", "a"))
        self.assertIsNone(parsed.main.text("a"))
        self.assertEqual((parsed.main.text("b"), parsed.section("s").text("a")), ("2", "3"))

    def test_readers_warnings(self) -> None:
        """What a reader warns of in any section, present or not, reaches the operator."""
        parsed = ini("[s]", "a=1")
        parsed.section("s").unsupported({"a": ""})
        parsed.section("absent").warn(None, "is missing")
        self.assertEqual(
            parsed.warnings,
            ("x.ini [s] a: has no effect in harakatls", "x.ini [absent]: is missing"),
        )


KEYS = st.text(string.ascii_letters + string.digits + "_@:.+-/", min_size=1, max_size=12)
# Whatever the grammar can hold: no line end, no blank at either end, no " ;", no final backslash.
VALUES = (
    st.text(st.characters(exclude_characters="\r\n"), max_size=30)
    .map(str.strip)
    .filter(lambda text: not text.endswith("\\"))
    .filter(
        lambda text: not any(text[i].isspace() and text[i + 1] == ";" for i in range(len(text) - 1))
    )
)


class AnyTextTests(SynchronousTestCase):
    @given(st.dictionaries(KEYS, st.one_of(st.none(), VALUES, st.lists(VALUES, min_size=1))))
    def test_round_trip(self, values: dict[str, str | list[str] | None]) -> None:
        """Whatever is written into a file in the grammar is read from it."""
        lines = ["[part]"]
        for key, value in values.items():
            if value is None:
                lines.append(key)
            elif isinstance(value, str):
                lines.append(f"{key}={value}")
            else:
                lines.extend(f"{key}[]={entry}" for entry in value)
        parsed = ini(*lines)
        section = parsed.section("part")
        self.assertEqual(section.names(), tuple(values))
        for key, value in values.items():
            if value is None:
                self.assertRaises(ConfigError, section.text, key)
            elif isinstance(value, str):
                self.assertEqual(section.text(key), value)
            else:
                self.assertEqual(section.texts(key), tuple(entry for entry in value if entry))
        self.assertEqual(parsed.warnings, ())

    @given(st.text() | st.text("=[]\\; #\r\nab1", max_size=60))
    def test_any_text(self, text: str) -> None:
        """No file makes the reader fail with anything but an error for the operator."""
        parsed = Ini.parse("x.ini", text)
        for name in parsed.sections():
            section = parsed.section(name)
            for key in section.names():
                for getter in (
                    section.text,
                    section.boolean,
                    section.integer,
                    section.seconds,
                    section.octets,
                    section.texts,
                    section.integers,
                    section.hosts,
                    lambda key, section=section: section.choice(key, ("a", "b")),
                ):
                    try:
                        getter(key)
                    except ConfigError as error:
                        self.assertEqual((error.file, error.key), ("x.ini", key))
            try:
                section.named_hosts()
            except ConfigError as error:
                self.assertEqual(error.section, name)
        for warning in parsed.warnings:
            self.assertTrue(warning.startswith("x.ini"))
            self.assertTrue(warning.isprintable())
