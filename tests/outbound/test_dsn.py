"""The report to the sender, read as a mail program reads it."""

from base64 import b64decode
from email import message_from_bytes, policy
from email.message import Message
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.envelope import MailParameters
from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.dsn import Reporter, report_envelope
from harakatls.outbound.notices import Action, Notice
from harakatls.outbound.original import HEADER_OCTETS, Original, original_header
from harakatls.outbound.retry import given_up
from harakatls.queued import Attempt, Delayed, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.testing.values import ARRIVED, MESSAGE, NEXT_HOP, queued_message, recipient

ME = "mta.example"
NOW = ARRIVED + 3600
BOB = recipient()
UNKNOWN = Reply.of(550, "5.1.1", "No such user here")


def heard(reply: Reply) -> Reply:
    """As a server says it."""
    return evolve(reply, heard=True)


def undelivered(reply: Reply = UNKNOWN, who: str = str(BOB.address)) -> Notice:
    """At the usual next hop."""
    return Notice(recipient(who), Action.FAILED, heard(reply), heard(reply), NEXT_HOP)


def tried(queued: QueuedMessage, *trials: Trial) -> QueuedMessage:
    """After one attempt."""
    return evolve(queued, attempts=1, history=(Attempt(NOW, trials),))


def report(
    queued: QueuedMessage | None = None,
    *told: Notice,
    original: Original = Original(original_header(MESSAGE)),  # noqa: B008
    until: float | None = None,
) -> bytes:
    """With one unknown user where nothing else is said."""
    return Reporter(ME).report(
        queued or tried(queued_message(), Trial("mx.recipient.example [192.0.2.1]:25", "550")),
        told or (undelivered(),),
        original,
        NOW,
        "c0ffee",
        until,
    )


def parsed(octets: bytes) -> Message:
    """By the standard library."""
    return message_from_bytes(octets, policy=policy.default)


def parts(octets: bytes) -> list[Any]:
    """The three parts."""
    found = parsed(octets).get_payload()
    assert isinstance(found, list)
    return found


def words(octets: bytes) -> str:
    """The part for people, decoded."""
    content = parts(octets)[0].get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


def status(octets: bytes) -> list[Any]:
    """The groups of fields of the part for programs."""
    groups = parts(octets)[1].get_payload()
    assert isinstance(groups, list)
    return groups


class FormTests(SynchronousTestCase):
    """RFC 3464, RFC 6522."""

    def test_the_report_is_multipart_of_three(self) -> None:
        """Mail programs show it as a delivery report, and list servers recognise it."""
        message = parsed(report())
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        kinds = [part.get_content_type() for part in parts(report())]
        self.assertEqual(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"])

    def test_it_goes_to_the_sender_from_nobody(self) -> None:
        """The header names the daemon; nothing answers to the answer automatically."""
        message = parsed(report())
        self.assertEqual(message["To"], "alice@sender.example")
        self.assertIn("MAILER-DAEMON@mta.example", message["From"])
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        self.assertEqual(message["Message-Id"], "<c0ffee@mta.example>")
        self.assertTrue(message["Date"])

    def test_the_envelope_has_the_null_reverse_path(self) -> None:
        """A report that cannot be delivered does not come back (RFC 5321 section 4.5.5)."""
        envelope = report_envelope(queued_message(), b"")
        self.assertIsNone(envelope.reverse_path)
        self.assertEqual([str(r.address) for r in envelope.recipients], ["alice@sender.example"])

    def test_it_refers_to_the_original(self) -> None:
        """Mail programs show the report below the message it is about."""
        self.assertEqual(parsed(report())["References"], "<1@sender.example>")

    def test_many_recipients(self) -> None:
        """Whatever a host says of ten thousand, the report is read, and small enough to arrive."""
        refusal = Reply(550, None, ("no " * 2000,))
        many = [undelivered(refusal, f"user{n}@recipient.example") for n in range(10_000)]
        octets = report(None, *many)
        self.assertLess(len(octets), 10_000_000)
        text = words(octets)
        self.assertLess(len(text), 200_000)
        self.assertIn("<user99@recipient.example>", text)
        self.assertIn("And 9900 more", text)
        self.assertEqual(len(status(octets)), 10_001)
        for group in status(octets)[1:]:
            self.assertTrue(group["Diagnostic-Code"].startswith("smtp; 550 no no"))

    def test_all_lines_end_in_crlf_and_are_short(self) -> None:
        """No server on the way back refuses the report for its form."""
        octets = report(None, undelivered(Reply.of(550, None, "x" * 5000)))
        self.assertEqual(octets.count(b"\n"), octets.count(b"\r\n"))
        self.assertEqual(octets.count(b"\r"), octets.count(b"\r\n"))
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 999)
        self.assertTrue(octets.endswith(b"\r\n"))

    def test_a_hostile_reply_adds_no_field(self) -> None:
        """A remote server cannot write fields of its own into the report."""
        evil = Reply.of(550, None, "no\r\nX-Evil: yes\r\n\r\n--=_c0ffee")
        octets = report(None, undelivered(evil))
        self.assertNotIn(b"\r\nX-Evil", octets)
        self.assertEqual(len(parts(octets)), 3)
        self.assertEqual(len(status(octets)), 2)


class StatusTests(SynchronousTestCase):
    """The part that programs read."""

    def test_the_message(self) -> None:
        """It names who reports, and when the message came."""
        queued = tried(queued_message(), Trial("a", "b"))
        group = status(report(queued))[0]
        self.assertEqual(group["Reporting-MTA"], "dns; mta.example")
        self.assertEqual(group["Arrival-Date"], "Tue, 14 Nov 2023 22:13:20 -0000")
        self.assertIsNone(group["Original-Envelope-Id"])

    def test_the_senders_envelope_id(self) -> None:
        """A sender that gave ENVID finds it again (RFC 3461 section 4.4)."""
        queued = tried(queued_message())
        envelope = evolve(queued.envelope, parameters=MailParameters(envid="QQ  3=14"))
        group = status(report(evolve(queued, envelope=envelope)))[0]
        self.assertEqual(group["Original-Envelope-Id"], "QQ  3=14")

    def test_each_recipient(self) -> None:
        """Address, action, status, host, its words and the time of each."""
        octets = report(
            None,
            undelivered(),
            undelivered(Reply.of(552, "5.2.2", "Mailbox full"), "ann@recipient.example"),
        )
        _, bob, ann = status(octets)
        self.assertEqual(bob["Final-Recipient"], "rfc822; bob@recipient.example")
        self.assertEqual(bob["Action"], "failed")
        self.assertEqual(bob["Status"], "5.1.1")
        self.assertEqual(bob["Remote-MTA"], "dns; mx.recipient.example")
        self.assertEqual(bob["Diagnostic-Code"], "smtp; 550 5.1.1 No such user here")
        self.assertEqual(bob["Last-Attempt-Date"], "Tue, 14 Nov 2023 23:13:20 -0000")
        self.assertEqual(ann["Final-Recipient"], "rfc822; ann@recipient.example")
        self.assertEqual(ann["Status"], "5.2.2")

    def test_after_many_delays(self) -> None:
        """The status is final, and the diagnostic is what the server really said."""
        later = Reply.of(451, "4.7.1", "Greylisted")
        failed = given_up(Delayed(BOB, later, NEXT_HOP))
        notice = Notice(BOB, Action.FAILED, failed.reply, heard(later), NEXT_HOP)
        group = status(report(None, notice))[1]
        self.assertEqual(group["Status"], "5.7.1")
        self.assertEqual(group["Diagnostic-Code"], "smtp; 451 4.7.1 Greylisted")

    def test_a_reply_without_status(self) -> None:
        """A server without enhanced codes leads to 5.0.0, never to no status."""
        group = status(report(None, undelivered(Reply.of(550, None, "no"))))[1]
        self.assertEqual(group["Status"], "5.0.0")

    def test_a_host_without_name(self) -> None:
        """A next hop that is an address is written as an address literal."""
        hop = NextHop("192.0.2.7", "recipient.example")
        group = status(report(None, evolve(undelivered(), next_hop=hop)))[1]
        self.assertEqual(group["Remote-MTA"], "dns; [192.0.2.7]")

    def test_a_store_on_this_machine(self) -> None:
        """A Unix socket is no host that anybody could know."""
        hop = NextHop("/run/dovecot/lmtp", "recipient.example", protocol=LMTP)
        group = status(report(None, evolve(undelivered(), next_hop=hop)))[1]
        self.assertIsNone(group["Remote-MTA"])

    def test_no_host_at_all(self) -> None:
        """A domain that does not exist has no host that could have said so."""
        notice = Notice(BOB, Action.FAILED, UNKNOWN, UNKNOWN)
        self.assertIsNone(status(report(None, notice))[1]["Remote-MTA"])

    def test_our_own_reason(self) -> None:
        """What no server said is not put into the mouth of one (RFC 3464 section 2.3.6)."""
        ours = Reply.of(451, "4.7.5", "TLS is required, but it failed")
        group = status(report(None, Notice(BOB, Action.FAILED, ours, ours, NEXT_HOP)))[1]
        self.assertIsNone(group["Remote-MTA"])
        self.assertEqual(
            group["Diagnostic-Code"], "x-harakatls; 451 4.7.5 TLS is required, but it failed"
        )
        self.assertEqual(group["Status"], "5.7.5")

    def test_the_original_recipient(self) -> None:
        """ORCPT comes back as it was given (RFC 3461 section 4.2)."""
        for original, told in (
            ("rfc822;list+x@mx.example", "rfc822; list+x@mx.example"),
            ("utf-8;j\xf6rg@mx.example", "utf-8; j\\x{F6}rg@mx.example"),
        ):
            bob = evolve(BOB, original=original)
            octets = report(None, evolve(undelivered(), recipient=bob))
            self.assertEqual(status(octets)[1]["Original-Recipient"], told)
            self.assertTrue(octets.isascii())


class OtherReportsTests(SynchronousTestCase):
    """Reports that are not about failures."""

    def test_a_delay(self) -> None:
        """The sender learns that nothing is to be done yet, and how long it may take."""
        later = heard(Reply.of(451, "4.7.1", "Greylisted"))
        octets = report(None, Notice(BOB, Action.DELAYED, later, later, NEXT_HOP), until=NOW + 60)
        group = status(octets)[1]
        self.assertEqual(group["Action"], "delayed")
        self.assertEqual(group["Status"], "4.7.1")
        self.assertEqual(group["Will-Retry-Until"], "Tue, 14 Nov 2023 23:14:20 -0000")
        self.assertEqual(parsed(octets)["Subject"], "delay notice")
        text = " ".join(words(octets).split())
        self.assertIn("ONLY A WARNING", text)
        self.assertIn("until Tue, 14 Nov 2023 23:14:20 -0000", text)
        self.assertIn("451 4.7.1 Greylisted", text)

    def test_success(self) -> None:
        """Passed on to a server that will say no more, or in the mailbox: it is told apart."""
        kept = heard(Reply.of(250, None, "Kept"))
        for action, phrase in (
            (Action.RELAYED, "was passed on to a server"),
            (Action.DELIVERED, "was delivered to the addresses below"),
        ):
            octets = report(None, Notice(BOB, action, kept, kept, NEXT_HOP))
            group = status(octets)[1]
            self.assertEqual(group["Action"], action.value)
            self.assertEqual(group["Status"], "2.0.0")
            self.assertEqual(parsed(octets)["Subject"], "success notice")
            self.assertIn(phrase, " ".join(words(octets).split()))

    def test_all_in_one(self) -> None:
        """One message, one report, whatever became of each recipient."""
        kept = heard(Reply.of(250, "2.0.0", "Kept"))
        ann = Notice(recipient("ann@recipient.example"), Action.RELAYED, kept, kept, NEXT_HOP)
        octets = report(None, undelivered(), ann)
        self.assertEqual([g["Action"] for g in status(octets)[1:]], ["failed", "relayed"])
        self.assertEqual(parsed(octets)["Subject"], "failure notice")
        text = words(octets)
        self.assertLess(text.index("<bob@recipient.example>"), text.index("<ann@"))


class WordsTests(SynchronousTestCase):
    """The part that people read."""

    def test_it_names_address_words_and_host(self) -> None:
        """The sender sees who did not get the message, and what the server said."""
        text = words(report())
        self.assertIn("<bob@recipient.example>:", text)
        self.assertIn("550 5.1.1 No such user here", text)
        self.assertIn("mx.recipient.example [192.0.2.1]", text)

    def test_every_host_keeps_its_own_reason(self) -> None:
        """Not "tried all MXs": each host with what went wrong there."""
        queued = tried(
            queued_message(),
            Trial("mx1.recipient.example [192.0.2.1]:25", "no connection: Connection refused"),
            Trial("mx2.recipient.example [192.0.2.2]:25", "451 4.3.0 Overloaded"),
        )
        text = words(report(queued))
        self.assertIn("mx1.recipient.example [192.0.2.1]:25", text)
        self.assertIn("no connection: Connection refused", text)
        self.assertIn("mx2.recipient.example [192.0.2.2]:25", text)
        self.assertIn("451 4.3.0 Overloaded", text)

    def test_the_tls_facts(self) -> None:
        """Why TLS was required, and what was wrong with the certificate, is in the report."""
        queued = tried(
            queued_message(),
            Trial(
                "mx.recipient.example [192.0.2.1]:25",
                "451 4.7.5 TLS is required, but it failed: unable to get local issuer certificate",
                "",
                ("force_tls_hosts has recipient.example",),
            ),
        )
        text = " ".join(words(report(queued)).split())
        self.assertIn("unable to get local issuer certificate", text)
        self.assertIn("force_tls_hosts has recipient.example", text)

    def test_words_beyond_ascii_survive(self) -> None:
        """A reply in the language of its server can be read."""
        octets = report(None, undelivered(Reply.of(550, "5.1.1", "Почтовый ящик не найден")))
        self.assertIn("Почтовый ящик не найден", words(octets))
        self.assertTrue(octets.isascii())


class HeaderTests(SynchronousTestCase):
    """The header of the original."""

    def test_the_header_comes_back_and_the_body_does_not(self) -> None:
        """The sender can tell which message it was; its text is not sent about again."""
        octets = report()
        self.assertIn(b"Subject: hello\r\n", octets)
        self.assertNotIn(b"Hello Bob", octets)

    def test_a_huge_header_is_cut_at_a_line(self) -> None:
        """A report stays small whatever the message was."""
        start = b"X-Long: 0123456789\r\n" * 4000
        cut = original_header(start[:HEADER_OCTETS])
        self.assertLessEqual(len(cut), HEADER_OCTETS)
        self.assertGreater(len(cut), HEADER_OCTETS - 100)
        self.assertTrue(cut.endswith(b"0123456789\r\n"))

    def test_a_header_without_body(self) -> None:
        """A message that is all header comes back whole."""
        self.assertEqual(original_header(b"A: b\r\nC: d\r\n"), b"A: b\r\nC: d\r\n")

    def test_a_header_in_utf8(self) -> None:
        """It comes back as it was, in a part that any server carries (RFC 6533)."""
        header = "Subject: Grüße\r\n".encode()
        octets = report(original=Original(header))
        part = parts(octets)[2]
        self.assertEqual(part.get_content_type(), "message/global-headers")
        self.assertTrue(octets.isascii())
        encoded = octets.partition(b"message/global-headers")[2].partition(b"\r\n\r\n")[2]
        self.assertEqual(b64decode(encoded.partition(b"--=_")[0]), header)


class SMTPUTF8Tests(SynchronousTestCase):
    """RFC 6533."""

    def test_a_recipient_beyond_ascii_is_encoded(self) -> None:
        """The report can go to a sender whose server knows ASCII alone."""
        octets = report(None, undelivered(who="jörg+x@recipient.example"))
        group = status(octets)[1]
        self.assertEqual(group["Final-Recipient"], "utf-8; j\\x{F6}rg\\x{2B}x@recipient.example")
        self.assertTrue(octets.isascii())

    def test_a_sender_beyond_ascii_needs_the_extension(self) -> None:
        """The report to such a sender asks the next hop for SMTPUTF8."""
        queued = tried(queued_message("jörg@sender.example"))
        self.assertTrue(report_envelope(queued, b"").parameters.smtputf8)
        self.assertFalse(report_envelope(queued_message(), b"").parameters.smtputf8)
        self.assertIn("jörg@sender.example".encode(), report(queued))


class WholeMessageTests(SynchronousTestCase):
    """RET=FULL."""

    def returned(self, message: bytes) -> Any:
        """The last part, and the whole report."""
        octets = report(original=Original(message, True))
        self.assertEqual(len(parts(octets)), 3)
        return parts(octets)[2], octets

    def test_ascii(self) -> None:
        """The sender gets back what was sent."""
        part, octets = self.returned(MESSAGE)
        self.assertEqual(part.get_content_type(), "message/rfc822")
        self.assertIn(MESSAGE, octets)
        self.assertEqual(parsed(octets)["References"], "<1@sender.example>")
        self.assertIn("Your message stands below", words(octets))
        self.assertIsNone(report_envelope(queued_message(), octets).parameters.body)

    def test_eight_bit(self) -> None:
        """A text in UTF-8 comes back as it was, and is declared for what it is."""
        message = MESSAGE + "Grüße\r\n".encode()
        part, octets = self.returned(message)
        self.assertEqual(part.get_content_type(), "message/rfc822")
        self.assertEqual(part["Content-Transfer-Encoding"], "8bit")
        self.assertEqual(parsed(octets)["Content-Transfer-Encoding"], "8bit")
        self.assertIn(message, octets)
        self.assertEqual(report_envelope(queued_message(), octets).parameters.body, "8BITMIME")

    def test_header_in_utf8(self) -> None:
        """A message of SMTPUTF8 is encoded, so that it comes back everywhere."""
        message = "Subject: Grüße\r\n\r\nBye\r\n".encode()
        _, octets = self.returned(message)
        self.assertTrue(octets.isascii())
        encoded = octets.partition(b"message/global\r\n")[2].partition(b"\r\n\r\n")[2]
        self.assertEqual(b64decode(encoded.partition(b"--=_")[0]), message)

    def test_a_message_with_a_forged_boundary(self) -> None:
        """What looks like the end of a part in the message ends none: nobody knows the token."""
        part, _ = self.returned(MESSAGE + b"--=_guess--\r\n")
        self.assertEqual(part.get_content_type(), "message/rfc822")
