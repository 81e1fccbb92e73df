"""Commands out of lines."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.envelope import MailParameters, Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.commands import NOTHING_OFFERED, Grammar, parse_command
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import (
    AuthReceived,
    DataReceived,
    HelloReceived,
    HelpReceived,
    MailReceived,
    NoopReceived,
    QuitReceived,
    RcptReceived,
    ResetReceived,
    ServerEvent,
    StartTLSReceived,
    UnrecognizedReceived,
    VerifyReceived,
)

ESMTP = Grammar(Capabilities.of("SIZE 1000", "8BITMIME", "SMTPUTF8", "AUTH PLAIN"))
UTF8 = Grammar(ESMTP.offered, utf8=True)
JOE = Address("joe", "a.example")


class CommandTests(SynchronousTestCase):
    def understood(self, line: str | bytes, event: ServerEvent, grammar: Grammar = ESMTP) -> None:
        octets = line.encode() if isinstance(line, str) else line
        self.assertEqual(parse_command(octets, grammar), event, line)

    def refused(self, line: str | bytes, reply: str, grammar: Grammar = ESMTP) -> None:
        octets = line.encode() if isinstance(line, str) else line
        problem = self.assertRaises(RemoteProtocolError, parse_command, octets, grammar)
        self.assertTrue(str(problem.reply).startswith(f"{reply} "), f"{line!r}: {problem.reply}")
        self.assertFalse(problem.fatal)
        self.assertTrue(problem.reply.wire.isascii())

    def test_simple(self) -> None:
        """Commands are understood in any case, with spaces at their end."""
        self.understood("DATA", DataReceived())
        self.understood("data  ", DataReceived())
        self.understood("RSET", ResetReceived())
        self.understood("Quit", QuitReceived())
        self.understood("STARTTLS", StartTLSReceived())
        self.understood("NOOP", NoopReceived())
        self.understood("NOOP why not", NoopReceived())
        self.understood("HELP", HelpReceived(""))
        self.understood("help MAIL", HelpReceived("MAIL"))
        self.understood("VRFY joe", VerifyReceived("joe"))
        self.understood("EXPN j\xf6rg", VerifyReceived("j\xf6rg", expand=True))

    def test_no_arguments(self) -> None:
        """STARTTLS with an argument is refused (RFC 3207 section 4), and others likewise."""
        for verb in ("STARTTLS", "DATA", "RSET", "QUIT"):
            self.refused(f"{verb} now", "501 5.5.4")
        for verb in ("VRFY", "EXPN"):
            self.refused(verb, "501 5.5.4")

    def test_unknown(self) -> None:
        """A plugin is told of verbs that nobody knows."""
        self.understood("xforward NAME=x  ", UnrecognizedReceived("XFORWARD", "NAME=x"))
        self.understood("BURL imap://x LAST", UnrecognizedReceived("BURL", "imap://x LAST"))
        self.understood("MAILX", UnrecognizedReceived("MAILX", ""))

    def test_no_text(self) -> None:
        """What is no line of text is refused, not guessed at."""
        for line in (
            b"",
            b" ",
            b" NOOP",
            b"NO\x00OP",
            b"NOOP\x7f",
            b"NOOP\rRSET",
            b"NOOP\tx",
            b"\x01",
        ):
            self.refused(line, "500 5.5.2")
        self.refused("N\xd6\xd6P", "500 5.5.2")
        self.refused(b"NOOP \xff", "500 5.5.2")
        self.refused("VRFY j\xf6rg\x85", "500 5.5.2")
        self.refused(b"MAIL FROM:<j\xf6rg@a.example> SMTPUTF8", "501 5.5.2")
        self.refused(b"RCPT TO:<\xed\xa0\x80@a.example>", "501 5.5.2", UTF8)

    def test_hello(self) -> None:
        """Whatever name a client gives itself, it may go on; without one it may not."""
        self.understood("EHLO a.example", HelloReceived("a.example", extended=True))
        self.understood("helo  [192.0.2.1]", HelloReceived("[192.0.2.1]", extended=False))
        self.understood("EHLO my_pc (home)", HelloReceived("my_pc", extended=True))
        # RFC 2034 section 4: no enhanced status here.
        self.refused("EHLO", "501 EHLO needs")
        self.refused("HELO ", "501 HELO needs")
        self.refused("EHLO b\xfccher.example", "501 8-bit")

    def test_mail(self) -> None:
        """A sender is understood as the RFC writes it, and as careless clients do."""
        for line in (
            "MAIL FROM:<joe@a.example>",
            "mail from:<joe@A.EXAMPLE> ",
            "MAIL FROM: <joe@a.example>",
            "MAIL  FROM:   <joe@a.example>",
            "MAIL FROM:joe@a.example",
            "MAIL From: joe@a.example",
            "MAIL FROM:<@relay.example:joe@a.example>",
        ):
            self.understood(line, MailReceived(JOE, MailParameters()))
        self.understood("MAIL FROM:<>", MailReceived(None, MailParameters()))
        self.understood(
            'MAIL FROM:<"a> SIZE=1 \\" b"@a.example>',
            MailReceived(Address('a> SIZE=1 " b', "a.example"), MailParameters()),
        )

    def test_wrong_mail(self) -> None:
        """A sender that cannot be read is refused with a reason."""
        for line in (
            "MAIL",
            "MAIL FROM",
            "MAIL FROM:",
            "MAIL TO:<joe@a.example>",
            "MAIL FROM <joe@a.example>",
            "MAIL FROM:<joe@a.example",
            "MAIL FROM:<joe@a.example>SIZE=1",
            "MAIL FROM:< joe@a.example >",
            'MAIL FROM:<"joe@a.example>',
            "MAIL FROM:>joe@a.example<",
        ):
            self.refused(line, "501 5.5.4")
        for line in (
            "MAIL FROM:<joe>",
            "MAIL FROM:<joe@>",
            "MAIL FROM:<joe@a..example>",
            "MAIL FROM:<postmaster>",
            "MAIL FROM:SIZE=100",
            "MAIL FROM:<" + "a" * 300 + "@a.example>",
        ):
            self.refused(line, "501 5.1.7")

    def test_rcpt(self) -> None:
        """Likewise a recipient."""
        for line in ("RCPT TO:<joe@a.example>", "rcpt to: joe@a.example"):
            self.understood(line, RcptReceived(Recipient(JOE)))
        for line in ("RCPT TO:<postmaster>", "RCPT TO:Postmaster"):
            self.understood(line, RcptReceived(Recipient(Address("postmaster", ""))))
        for line in ("RCPT", "RCPT TO:", "RCPT FROM:<joe@a.example>", "RCPT <joe@a.example>"):
            self.refused(line, "501 5.5.4")
        for line in ("RCPT TO:<>", "RCPT TO:<joe>", "RCPT TO:<joe@[1.2.3]>", "RCPT TO:<joe@a\\b>"):
            self.refused(line, "501 5.1.3")

    def test_parameters(self) -> None:
        """What EHLO offered may be used, and is known to the hooks."""
        for line, parameters in (
            ("SIZE=1000", MailParameters(size=1000)),
            ("size=0", MailParameters(size=0)),
            ("BODY=8bitmime", MailParameters(body="8BITMIME")),
            ("BODY=7BIT  SIZE=5", MailParameters(body="7BIT", size=5)),
            ("SMTPUTF8", MailParameters(smtputf8=True)),
            ("AUTH=<>", MailParameters()),
            ("AUTH=joe SIZE=7", MailParameters(size=7)),
            ("AUTH=e+3Dmc2@a.example", MailParameters()),
        ):
            self.understood(f"MAIL FROM:<joe@a.example> {line}", MailReceived(JOE, parameters))

    def test_wrong_parameters(self) -> None:
        """A parameter that cannot be read is refused, not ignored."""
        for words in (
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=x",
            "SIZE=\u0661",
            "SIZE=" + "1" * 21,
            "SIZE=1 SIZE=1",
            "BODY=BINARY",
            "BODY",
            "SMTPUTF8=yes",
            "AUTH",
            "AUTH=",
            "AUTH=<joe>=",
            "AUTH=joe+0D",
            "AUTH=joe+0D+0A",
        ):
            self.refused(f"MAIL FROM:<joe@a.example> {words}", "501 5.5.4")

    def test_unknown_parameters(self) -> None:
        """What was not offered is refused with 555, so that the client knows why."""
        for words in (
            "RET=HDRS",
            "ENVID=x",
            "BODY=BINARYMIME",
            "X",
            "=",
            "=1",
            "SIZE=1 X=\xfc",
            "X" * 300,
        ):
            self.refused(f"MAIL FROM:<joe@a.example> {words}", "555 5.5.4")
        for words in ("NOTIFY=NEVER", "ORCPT=rfc822;joe@a.example", "SIZE=1"):
            self.refused(f"RCPT TO:<joe@a.example> {words}", "555 5.5.4")
        for words in ("SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "AUTH=<>"):
            self.refused(f"MAIL FROM:<joe@a.example> {words}", "555 5.5.4", NOTHING_OFFERED)

    def test_smtputf8(self) -> None:
        """An address beyond ASCII needs SMTPUTF8 (RFC 6531 section 3.5)."""
        joerg = Address("j\xf6rg", "xn--bcher-kva.example")
        line = "MAIL FROM:<j\xf6rg@b\xfccher.example>"
        self.understood(f"{line} SMTPUTF8", MailReceived(joerg, MailParameters(smtputf8=True)))
        self.refused(line, "550 5.6.7")
        self.refused(line, "550 5.6.7", NOTHING_OFFERED)
        self.refused("MAIL FROM:<joe@b\xfccher.example>", "550 5.6.7")
        line = "RCPT TO:<j\xf6rg@b\xfccher.example>"
        self.understood(line, RcptReceived(Recipient(joerg)), UTF8)
        self.refused(line, "553 5.6.7")

    def test_auth(self) -> None:
        """AUTH is read with its initial response, also with an empty one."""
        self.understood("AUTH plain", AuthReceived("PLAIN", None))
        self.understood("AUTH PLAIN =", AuthReceived("PLAIN", b""))
        self.understood("AUTH PLAIN AGpvZQBx", AuthReceived("PLAIN", b"\0joe\0q"))
        for line in ("AUTH", "AUTH PL+AIN", "AUTH " + "X" * 21):
            self.refused(line, "501 5.5.4")
        for line in (
            "AUTH PLAIN x",
            "AUTH PLAIN AGpv ZQBx",
            "AUTH PLAIN AGpvZQ==x",
            "AUTH PLAIN *",
        ):
            self.refused(line, "501 5.5.2")

    @given(
        st.sampled_from(
            ["", "MAIL FROM:", "RCPT TO:", "MAIL FROM:<a@b> ", "EHLO ", "AUTH ", "VRFY "]
        ),
        st.text(max_size=30) | st.text(alphabet='<>@"\\ =.a:[]\xfc', max_size=20),
        st.binary(max_size=3),
        st.sampled_from([NOTHING_OFFERED, ESMTP, UTF8]),
    )
    def test_anything(self, start: str, text: str, end: bytes, grammar: Grammar) -> None:
        """No line breaks the server, and every refusal can be sent."""
        line = start.encode() + text.encode("utf-8", "surrogatepass") + end
        try:
            parse_command(line, grammar)
        except RemoteProtocolError as problem:
            assert problem.reply is not None
            self.assertGreaterEqual(problem.reply.code, 500)
            self.assertLess(max(map(len, problem.reply.wire.split(b"\r\n"))), 511)
