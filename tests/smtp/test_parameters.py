"""The parameters of MAIL and RCPT: what a client says to us, and what we say to the next hop."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.commands import Grammar, parse_command
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import MailReceived, RcptReceived
from harakatls.smtp.parameters import mail_parameters, needs_smtputf8, rcpt_parameters
from tests.smtp.support import recipient

JOE = Address("joe", "client.example")
UTF8 = Address("j\xf6rg", "client.example")
ANN = recipient("ann@mx.example")
DSN = Capabilities.of("DSN", "SMTPUTF8")


class DSNParametersTests(SynchronousTestCase):
    """RFC 3461 section 4, as clients say it."""

    def mail(self, words: str) -> MailParameters:
        event = parse_command(f"MAIL FROM:<joe@a.example> {words}".encode(), Grammar(DSN))
        assert isinstance(event, MailReceived)
        return event.parameters

    def rcpt(self, words: str, utf8: bool = False) -> Recipient:
        event = parse_command(f"RCPT TO:<ann@mx.example> {words}".encode(), Grammar(DSN, utf8))
        assert isinstance(event, RcptReceived)
        return event.recipient

    def test_mail(self) -> None:
        """What is to be returned, and the sender's own name for the message."""
        self.assertEqual(self.mail("RET=hdrs"), MailParameters(ret="HDRS"))
        self.assertEqual(
            self.mail("ret=FULL ENVID=QQ+2B314"), MailParameters(ret="FULL", envid="QQ+314")
        )
        self.assertEqual(self.mail(f"ENVID={'x' * 100}").envid, "x" * 100)

    def test_rcpt(self) -> None:
        """When a report is wanted, and for whom the message was at first."""
        self.assertEqual(self.rcpt("NOTIFY=never"), evolve(ANN, notify=frozenset({"NEVER"})))
        self.assertEqual(
            self.rcpt("NOTIFY=success,FAILURE,Delay ORCPT=rfc822;list+2Bx@mx.example"),
            Recipient(
                ANN.address,
                "rfc822;list+x@mx.example",
                frozenset({"SUCCESS", "FAILURE", "DELAY"}),
            ),
        )
        self.assertEqual(self.rcpt("ORCPT=utf-8;j\xf6rg@a", utf8=True).original, "utf-8;j\xf6rg@a")
        self.assertEqual(len(self.rcpt(f"ORCPT=rfc822;{'x' * 493}").original or ""), 500)

    def test_wrong(self) -> None:
        """What cannot be read is refused with 501, for this command alone."""
        for words in (
            "RET",
            "RET=",
            "RET=BODY",
            "RET=FULL RET=HDRS",
            "ENVID",
            "ENVID=",
            "ENVID=a+0D+0ABcc:x",
            "ENVID=a+2",
            "ENVID=a ENVID=b",
            f"ENVID={'x' * 101}",
        ):
            problem = self.assertRaises(RemoteProtocolError, self.mail, words)
            self.assertTrue(str(problem.reply).startswith("501 5.5.4"), words)
        for words in (
            "NOTIFY",
            "NOTIFY=",
            "NOTIFY=ALWAYS",
            "NOTIFY=NEVER,FAILURE",
            "NOTIFY=SUCCESS,",
            "NOTIFY=SUCCESS NOTIFY=DELAY",
            "ORCPT",
            "ORCPT=",
            "ORCPT=joe@a.example",
            "ORCPT=rfc822;",
            "ORCPT=;joe@a.example",
            "ORCPT=rfc822;joe+0D+0Ax",
            "ORCPT=rfc 822;joe",
            "ORCPT=rfc822;j\xf6rg@a.example",
            f"ORCPT=rfc822;{'x' * 494}",
        ):
            problem = self.assertRaises(RemoteProtocolError, self.rcpt, words, True)
            code = "555 5.5.4" if words.startswith("ORCPT=rfc 822") else "501 5.5.4"
            self.assertTrue(str(problem.reply).startswith(("501 5.5.4", code)), words)
        problem = self.assertRaises(RemoteProtocolError, self.rcpt, "SIZE=1")
        self.assertTrue(str(problem.reply).startswith("555 5.5.4"))

    @given(st.text(max_size=40) | st.text(alphabet="+;=,0D\xfcax", max_size=20))
    def test_anything(self, value: str) -> None:
        """No value breaks the server, and none that is taken could end a field or a line."""
        for keyword in ("ENVID", "ORCPT", "NOTIFY", "RET"):
            line = f"{keyword}={value}" if keyword != "ORCPT" else f"ORCPT=utf-8;{value}"
            try:
                if keyword in ("ENVID", "RET"):
                    found = self.mail(line).envid
                else:
                    found = self.rcpt(line, utf8=True).original
            except (RemoteProtocolError, UnicodeEncodeError):
                continue
            self.assertTrue((found or "").isprintable())


class ToTheNextHopTests(SynchronousTestCase):
    """What is passed on."""

    def said(self, envelope: Envelope, *offered: str) -> str:
        return mail_parameters(envelope, 1000, Capabilities.of(*offered))

    def test_only_what_is_offered(self) -> None:
        """A server hears what it offered to understand, and nothing else."""
        eight = Envelope(JOE, (ANN,), MailParameters(size=5, body="8BITMIME"))
        self.assertEqual(self.said(eight), "")
        self.assertEqual(self.said(eight, "SIZE", "8BITMIME"), " SIZE=1000 BODY=8BITMIME")
        self.assertEqual(self.said(Envelope(JOE, (ANN,)), "SIZE 9", "8BITMIME"), " SIZE=1000")

    def test_smtputf8(self) -> None:
        """A message that needs SMTPUTF8 says so, and is not sent where it is not offered."""
        for envelope in (
            Envelope(UTF8, (ANN,)),
            Envelope(None, (ANN, Recipient(UTF8))),
            Envelope(JOE, (ANN,), MailParameters(smtputf8=True)),
        ):
            self.assertTrue(needs_smtputf8(envelope))
            self.assertEqual(self.said(envelope, "SMTPUTF8"), " SMTPUTF8")
            self.assertRaises(LocalProtocolError, self.said, envelope, "SIZE")
        for envelope in (Envelope(JOE, (ANN,)), Envelope(None)):
            self.assertFalse(needs_smtputf8(envelope))
            self.assertEqual(self.said(envelope, "SMTPUTF8"), "")

    def test_requiretls(self) -> None:
        """It goes on where it is offered (RFC 8689 section 4.2.1)."""
        tagged = Envelope(JOE, (ANN,), MailParameters(requiretls=True))
        self.assertEqual(self.said(tagged, "REQUIRETLS", "SIZE"), " SIZE=1000 REQUIRETLS")
        self.assertEqual(self.said(tagged, "SIZE"), " SIZE=1000")
        self.assertEqual(self.said(Envelope(JOE, (ANN,)), "REQUIRETLS"), "")

    def test_reports(self) -> None:
        """The sender's wishes about reports go on to a server that knows what to do with them."""
        told = Envelope(JOE, (ANN,), MailParameters(ret="HDRS", envid="a+b c"))
        self.assertEqual(self.said(told, "DSN"), " RET=HDRS ENVID=a+2Bb+20c")
        self.assertEqual(self.said(told, "8BITMIME"), "")
        wishes = frozenset({"DELAY", "SUCCESS"})
        ann = Recipient(ANN.address, "rfc822;ann+x@mx.example", wishes)
        self.assertEqual(
            rcpt_parameters(ann, DSN), " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ann+2Bx@mx.example"
        )
        self.assertEqual(rcpt_parameters(ann, Capabilities.of("SIZE")), "")
        self.assertEqual(rcpt_parameters(ANN, DSN), "")
        never = evolve(ANN, notify=frozenset({"NEVER"}))
        self.assertEqual(rcpt_parameters(never, DSN), " NOTIFY=NEVER")
        utf8 = evolve(ANN, original="utf-8;j\xf6rg@a")
        self.assertEqual(rcpt_parameters(utf8, DSN), " ORCPT=utf-8;j\\x{F6}rg@a")
