"""How the values of DSN parameters are written."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail import xtext


class XtextTests(SynchronousTestCase):
    def test_values(self) -> None:
        """What a client escaped comes out as it meant it (RFC 3461 section 4)."""
        for text, value in (
            ("", ""),
            ("QQ314159", "QQ314159"),
            ("a+2Bb+3Dc+20d", "a+b=c d"),
            ("+2B+2B", "++"),
            ("joe@a.example", "joe@a.example"),
            ("j\\x{F6}rg@a.example", "j\\x{F6}rg@a.example"),
        ):
            self.assertEqual(xtext.decode(text), value)
            self.assertEqual(xtext.encode(value), text)

    def test_refused(self) -> None:
        """Nothing that could end a header field, or that is no xtext, gets through."""
        for text in (
            "a b",
            "a=b",
            "a+",
            "a+2",
            "a+2b",
            "a+GG",
            "+0D+0ABcc:",
            "a+00",
            "a+7F",
            "a+E9",
            "a\n",
            "\xe9",
            "a\u2028",
        ):
            self.assertRaises(xtext.XtextError, xtext.decode, text)
        for text in ("a\u2028", "a\x85", "+0D", "a b", "\xe9=\xe9", "\u200e\n"):
            self.assertRaises(xtext.XtextError, xtext.decode, text, True)

    def test_beyond_ascii(self) -> None:
        """An address of SMTPUTF8 is taken as it is, and passed on in ASCII (RFC 6533)."""
        self.assertEqual(xtext.decode("j\xf6rg+2Bx", True), "j\xf6rg+x")
        self.assertEqual(xtext.encode("j\xf6rg+x \U0001f4e7"), "j\\x{F6}rg+2Bx+20\\x{1F4E7}")

    @given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
    def test_there_and_back(self, value: str) -> None:
        """Whatever is printable survives a relay."""
        self.assertEqual(xtext.decode(xtext.encode(value)), value)
