"""The running server hands mail on to Postfix, with TLS that must be."""

from email import message_from_string
from email.message import Message

from tests.interop.postfix import Postfix
from tests.interop.relaying import RECIPIENT, RelayCase
from tests.support import Certificates, temporary_directory, wait_until


class RelayToPostfixTests(RelayCase):
    """dest.test is forced: a valid certificate or nothing; client.test, for bounces, is not."""

    certificates: Certificates
    postfix: Postfix

    def setUp(self) -> None:
        self.certificates = Certificates()

    def start_postfix(self, *names: str, level: str = "may") -> None:
        """@param names: whom its certificate is for."""
        directory = temporary_directory()
        cert, key = self.certificates.write_pair(directory, *names)
        self.postfix = Postfix(
            "dest.test",
            {
                "virtual_mailbox_domains": "dest.test client.test",
                "smtpd_tls_security_level": level,
                "smtpd_tls_chain_files": f"{key}, {cert}",
            },
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()

    def start_trusting(self, trusted: Certificates, **files: str) -> None:
        """@param trusted: who may vouch for dest.test."""
        hop = f"localhost:{self.postfix.port}"
        authority = trusted.write_authority(temporary_directory() / "authority.pem")
        forced = f"[outbound]\nca={authority}\nforce_tls_hosts[]=dest.test\n"
        self.start_instance({"dest.test": hop, "client.test": hop}, {"tls.ini": forced, **files})

    def queue_is_empty(self) -> bool:
        return "recipient@dest.test" not in self.instance.queue_list()

    def check_deferred_then_bounced(self, reason: str) -> None:
        """
        The message waits with its reason in log and queue, and then goes back with it.

        Not one octet of it was given away before.

        @param reason: an expression that tells the operator, and the sender, what is wrong.
        """
        self.send("must not leak")
        log = wait_until(
            lambda: self.instance.log() if "deferred" in self.instance.log() else "",
            "deferral in our log",
        )
        deferred = next(line for line in log.splitlines() if "deferred" in line)
        self.assertRegex(deferred, reason)
        listed = self.instance.queue_list()
        self.assertIn(RECIPIENT, listed)
        self.assertRegex(listed, reason)
        bounce = self.wait_for_bounce()
        self.assertNotIn("<recipient@dest.test>", self.postfix.log())
        report = message_from_string(bounce)
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertEqual(report["Return-Path"], "<>")
        parts = report.get_payload()
        assert isinstance(parts, list)
        text, status, original = parts
        assert isinstance(status, Message)
        self.assertRegex(" ".join(str(text).split()), reason)
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        self.assertRegex(" ".join(str(status).split()), reason)
        self.assertIn("Final-Recipient: rfc822;", str(status).replace("; ", ";"))
        self.assertIn("must not leak", str(original))
        wait_until(self.queue_is_empty, "empty queue")

    def wait_for_bounce(self) -> str:
        """The message about the failure, at the sender's domain."""
        mail = self.postfix.directory / "mail/all/new"

        def found() -> str:
            texts = [path.read_text(errors="replace") for path in mail.glob("*")]
            return next((text for text in texts if "multipart/report" in text), "")

        try:
            return wait_until(found, "bounce", 40)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.instance.log()}") from None

    def test_forced_tls(self) -> None:
        """With the right name from a trusted authority, mail goes out over verified TLS."""
        self.start_postfix("localhost", level="encrypt")
        self.start_trusting(self.certificates)
        self.send("over verified TLS")
        text = self.postfix.wait_for_mail("over verified TLS")
        received = " ".join(message_from_string(text).get_all("Received", [])[0].split())
        self.assertRegex(received, r"using TLSv1\.[23] with cipher")
        self.assertIn("with ESMTPS", received)
        wait_until(self.queue_is_empty, "empty queue")
        delivered = next(line for line in self.instance.log().splitlines() if "delivered" in line)
        self.assertRegex(delivered, r"TLSv1\.[23]")
        self.assertIn("verified", delivered)

    def test_opportunistic_tls(self) -> None:
        """A host that is not forced gets its mail over TLS whatever its certificate says."""
        self.start_postfix("other.test", level="encrypt")
        self.start_trusting(Certificates(), **{"tls.ini": ""})
        self.send("over some TLS")
        text = self.postfix.wait_for_mail("over some TLS")
        received = " ".join(message_from_string(text).get_all("Received", [])[0].split())
        self.assertIn("with ESMTPS", received)

    def test_without_tls(self) -> None:
        """A host that is not forced and has no TLS gets its mail in the clear."""
        self.start_postfix("localhost", level="none")
        self.start_trusting(self.certificates, **{"tls.ini": ""})
        self.send("in the clear")
        text = self.postfix.wait_for_mail("in the clear")
        received = " ".join(message_from_string(text).get_all("Received", [])[0].split())
        self.assertNotIn("ESMTPS", received)

    def test_wrong_name(self) -> None:
        """A certificate for somebody else: the mail waits, and comes back with that reason."""
        self.start_postfix("other.test")
        self.start_trusting(self.certificates)
        self.check_deferred_then_bounced("certificate is for other.test, not localhost")

    def test_untrusted_authority(self) -> None:
        """A certificate from nobody we trust: the mail waits, and comes back with that reason."""
        self.start_postfix("localhost")
        self.start_trusting(Certificates())
        self.check_deferred_then_bounced("unable to get local issuer certificate")

    def test_no_starttls(self) -> None:
        """STARTTLS is not offered (or was cut out): the mail waits, and is never sent in clear."""
        self.start_postfix("localhost", level="none")
        self.start_trusting(self.certificates)
        self.check_deferred_then_bounced("does not offer STARTTLS")
