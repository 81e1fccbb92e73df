"""The operator's own words for bounces."""

from email import message_from_bytes, policy
from email.message import Message
from importlib.resources import files
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.notices import Action, Notice
from harakatls.outbound.original import Original
from harakatls.outbound.templates import HTML, IMAGE, TEXT, Templates
from harakatls.queued import Attempt, QueuedMessage, Trial
from harakatls.smtp.reply import Reply
from harakatls.testing.values import ARRIVED, NEXT_HOP, queued_message, recipient
from tests.config.files import write_config

UNKNOWN = Reply.of(550, "5.1.1", "No such user here")
HEADER = b"Subject: hello\r\nMessage-Id: <1@sender.example>\r\n"
HARAKAS = (
    "Received: (Haraka {pid} invoked for bounce); {date}\nDate: {date}\n"
    "From: MAILER-DAEMON@{me}\nTo: {from}\nSubject: failure notice\nMessage-Id: {msgid}\n\n"
    "Hi. This is the program at {me}.\n\nRecipients: {recipients}\nReason: {reason}\n"
)
PICTURE = (
    "Content-Type: image/png\nContent-Transfer-Encoding: base64\n"
    "Content-ID: <icon>\n\niVBORw0KGg==\n"
)


def failure(reply: Reply = UNKNOWN, who: str = "bob@recipient.example") -> Notice:
    """At the usual next hop."""
    return Notice(recipient(who), Action.FAILED, reply, reply, NEXT_HOP)


class TemplatesTestCase(SynchronousTestCase):
    warnings: tuple[str, ...] = ()

    def load(self, text: str | None = None, **others: str) -> Templates:
        """@param others: html, image."""
        given = {TEXT: text, HTML: others.get("html"), IMAGE: others.get("image")}
        config = write_config(self, {k: v for k, v in given.items() if v is not None})
        templates = Templates.load(config)
        self.warnings = config.warnings
        return templates

    def refused(self, text: str | None = None, **others: str) -> str:
        with self.assertRaises(ConfigError) as caught:
            self.load(text, **others)
        return str(caught.exception)

    def octets(
        self,
        templates: Templates,
        *told: Notice,
        header: bytes = HEADER,
        queued: QueuedMessage | None = None,
    ) -> bytes:
        return Reporter("mta.example", templates).report(
            queued or queued_message(), told or (failure(),), Original(header), ARRIVED, "c0ffee"
        )

    def report(self, templates: Templates, *told: Notice, header: bytes = HEADER) -> Message:
        """As the standard library reads it."""
        return message_from_bytes(
            self.octets(templates, *told, header=header), policy=policy.default
        )


def parts(message: Message) -> list[Any]:
    found = message.get_payload()
    assert isinstance(found, list)
    return found


def text_of(part: Any) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode().replace("\r\n", "\n")


class LoadTests(TemplatesTestCase):
    def test_none(self) -> None:
        """Without files, or with comments alone as in the samples, the words are ours."""
        self.assertEqual(self.load(), Templates())
        samples = files("harakatls.samples")
        texts = [(samples / name).read_text(encoding="utf-8") for name in (TEXT, HTML, IMAGE)]
        self.assertEqual(self.load(texts[0], html=texts[1], image=texts[2]), Templates())
        self.assertEqual(self.warnings, ())

    def test_the_samples_work(self) -> None:
        """Who takes the comment signs of the samples away, as they say, has templates."""
        samples = files("harakatls.samples")
        texts = []
        for name, start in ((TEXT, "# From:"), (HTML, "# <html>"), (IMAGE, "# Content-Type")):
            sample = (samples / name).read_text(encoding="utf-8")
            wanted = sample[sample.index(start) :].splitlines()
            texts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in wanted))
        report = self.report(self.load(texts[0], html=texts[1], image=texts[2]))
        self.assertEqual(self.warnings, ())
        kinds = [part.get_content_type() for part in report.walk()]
        self.assertEqual(
            kinds[:6],
            [
                "multipart/report",
                "multipart/related",
                "multipart/alternative",
                "text/plain",
                "text/html",
                "image/png",
            ],
        )
        self.assertEqual(report["Subject"], "failure notice: hello")

    def test_unknown_variables(self) -> None:
        """An operator who mistypes a variable is told which, and what there is."""
        templates = self.load("Subject: {sujet}\n\nHi {name}, {name}: {reason}\n", html="<p>{x}")
        first, second, third = self.warnings
        self.assertTrue(
            first.startswith(f"{TEXT}: {{sujet}} becomes ?; the variables are {{date}}")
        )
        self.assertTrue(second.startswith(f"{TEXT}: {{name}} becomes ?"))
        self.assertTrue(third.startswith(f"{HTML}: {{x}} becomes ?"))
        report = self.report(templates)
        self.assertEqual(report["Subject"], "?")
        self.assertIn("Hi ?, ?: 550 5.1.1 No such user here", text_of(parts(parts(report)[0])[0]))

    def test_mistakes(self) -> None:
        """A file that cannot be used stops the start, with the reason."""
        self.assertIn("'Hi there' is not a header field", self.refused("Hi there\n\nx\n"))
        self.assertIn(f"{IMAGE}: expected a MIME part", self.refused(image="iVBORw0KGg==\n"))
        self.assertIn(f"{IMAGE}: is not ASCII", self.refused(image=PICTURE + "\xfc"))

    def test_without_effect(self) -> None:
        """What needs another file, or is no matter of a template, is told."""
        self.load(html="<p>")
        self.assertEqual(self.warnings, (f"{HTML}: has no effect without {TEXT}",))
        self.load("Subject: x\n\ny\n", image=PICTURE)
        self.assertEqual(self.warnings, (f"{IMAGE}: has no effect without {HTML}",))
        self.load("Content-Type: text/plain\nSubject: x\n\ny\n")
        self.assertIn("Content-Type has no effect", self.warnings[0])


class FilledTests(TemplatesTestCase):
    def test_harakas_own(self) -> None:
        """A template written for Haraka gives the report it was written for."""
        report = self.report(self.load(HARAKAS))
        self.assertEqual(self.warnings, ())
        self.assertEqual(report["To"], "alice@sender.example")
        self.assertEqual(report["From"], "MAILER-DAEMON@mta.example")
        self.assertEqual(report["Message-Id"], "<c0ffee@mta.example>")
        self.assertEqual(len(report.get_all("Date", [])), 1)
        self.assertIn("invoked for bounce", report["Received"])
        self.assertEqual(report["Auto-Submitted"], "auto-replied")
        self.assertEqual(
            text_of(parts(report)[0]),
            "Hi. This is the program at mta.example.\n\nRecipients: bob@recipient.example\n"
            "Reason: 550 5.1.1 No such user here\n",
        )

    def test_extended_reason(self) -> None:
        """Why TLS stood in the way is in the text."""
        trial = Trial(
            "mx.recipient.example [192.0.2.1]:25",
            "451 4.7.5 TLS is required, but it failed: certificate has expired",
            "",
            ("force_tls_hosts has recipient.example",),
        )
        queued = evolve(queued_message(), attempts=1, history=(Attempt(ARRIVED, (trial,)),))
        templates = self.load("Subject: x\n\n{extended_reason}\n")
        octets = self.octets(templates, queued=queued)
        text = " ".join(text_of(parts(message_from_bytes(octets))[0]).split())
        self.assertIn("bob@recipient.example: 550 5.1.1 No such user here", text)
        self.assertIn("certificate has expired", text)
        self.assertIn("force_tls_hosts has recipient.example", text)

    def test_html(self) -> None:
        """Text and HTML stand side by side; a picture belongs to the HTML."""
        report = self.report(self.load("Subject: x\n\nT {to}\n", html="<p>{to}</p>\n"))
        both = parts(report)[0]
        self.assertEqual(both.get_content_type(), "multipart/alternative")
        self.assertEqual(text_of(both.get_payload()[0]), "T bob@recipient.example\n")
        self.assertEqual(text_of(both.get_payload()[1]), "<p>bob@recipient.example</p>\n")
        report = self.report(self.load("Subject: x\n\nT\n", html="<p>\n", image=PICTURE))
        related = parts(report)[0]
        self.assertEqual(related.get_content_type(), "multipart/related")
        picture = related.get_payload()[1]
        self.assertEqual(picture["Content-ID"], "<icon>")
        self.assertEqual(picture.get_payload(decode=True), b"\x89PNG\r\n\x1a\n"[:7])

    def test_what_the_template_does_not_tell(self) -> None:
        """Who asked to be told of success is told, though the template is about failures."""
        kept = Reply.of(250, None, "Kept")
        ann = Notice(recipient("ann@recipient.example"), Action.RELAYED, kept, kept, NEXT_HOP)
        templates = self.load("Subject: x\n\nFailed: {recipients}\n")
        text = text_of(parts(self.report(templates, failure(), ann))[0])
        self.assertIn("Failed: bob@recipient.example\n", text)
        self.assertIn("<ann@recipient.example>:", text)
        self.assertNotEqual(self.report(templates, ann)["Subject"], "x")

    def test_fields_beyond_ascii(self) -> None:
        """A name of the operator's in his own script, and the sender's subject in his."""
        header = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        templates = self.load("From: Müller <postmaster@{me}>\nSubject: Zurück: {subject}\n\nü\n")
        octets = self.octets(templates, header=header)
        self.assertTrue(octets.isascii())
        report = message_from_bytes(octets, policy=policy.default)
        self.assertEqual(report["From"], "Müller <postmaster@mta.example>")
        self.assertEqual(report["Subject"], "Zurück: Grüße")


class HostileTests(TemplatesTestCase):
    """Senders and servers write what they like."""

    EVIL = "a\r\nBcc: victim@b.example\r\n\r\n--=_c0ffee\r\nContent-Type: text/html\r\n\r\n<script>"

    def check(self, octets: bytes) -> Message:
        report = message_from_bytes(octets, policy=policy.default)
        self.assertIsNone(report["Bcc"])
        self.assertEqual(len(parts(report)), 3)
        for part in report.walk():
            self.assertNotIn(
                "<script>", str(part) if part.get_content_type() == "text/html" else ""
            )
        self.assertEqual(octets.count(b"\n"), octets.count(b"\r\n"))
        return report

    def test_a_reason(self) -> None:
        """A server's reply adds no field, no part and no script."""
        templates = self.load(
            "Subject: {reason}\nX-Why: {extended_reason}\n\n{reason} {extended_reason}\n",
            html="<p>{reason} {extended_reason}</p>\n",
        )
        self.check(self.octets(templates, failure(Reply.of(550, None, self.EVIL))))

    def test_a_subject(self) -> None:
        """Nor does a subject, encoded or folded as it may be."""
        templates = self.load(
            "Subject: {subject}\nFrom: {subject} <a@{me}>\n\n{subject}\n", html="{subject}\n"
        )
        for subject in (
            b"=?utf-8?b?YQ0KQmNjOiB2aWN0aW1AYi5leGFtcGxlDQoNCjxzY3JpcHQ+?=",
            b"=?utf-8?q?a=0D=0ABcc:_victim=0D=0A=0D=0A<script>?=",
            b"a\r\n Bcc: victim@b.example",
            b"=?x-unknown?q?=FF?=",
            b"=?utf-8?b?!!!?=",
            b"\xff\xfe<script>",
            b"x" * 5000,
        ):
            self.check(self.octets(templates, header=b"Subject: " + subject + b"\r\n"))

    def test_a_subject_whose_encoding_is_forged(self) -> None:
        """A report is made all the same: without one the message would be tried for ever."""
        templates = self.load("Subject: {subject}\n\n{subject}\n")
        for subject in ("=?utf-8?B?A?=", "=?\xfc?q?abc?=", "=?nowhere?q?abc?=", "=?utf-8?q?=ff?="):
            header = f"Subject: {subject}\r\n".encode()
            octets = self.octets(templates, header=header)
            self.assertIn(subject, text_of(parts(message_from_bytes(octets))[0]))

    @given(st.text(max_size=60), st.text(alphabet="=?utf8bqQB_<> :é", max_size=40))
    def test_anything(self, reason: str, subject: str) -> None:
        """Whatever they hold, the report has three parts and the fields that it should."""
        fields = (("Subject", "{subject} {reason}"),)
        templates = Templates(fields, "{reason}\n{subject}", "{reason}")
        header = f"Subject: {subject}\r\n".encode()
        octets = self.octets(templates, failure(Reply.of(550, None, reason)), header=header)
        self.assertEqual(self.check(octets)["To"], "alice@sender.example")
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 999)
