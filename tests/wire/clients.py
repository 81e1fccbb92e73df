"""The scenarios that every mail program has to pass with us: a message over each kind of TLS."""

import re
from email import message_from_string
from email.message import Message
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance

if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object

SENDER = "sender@client.test"
RECIPIENT = "recipient@mx.test"

# A leading dot, a dot alone, and a trailing blank line: what dot-stuffing has to carry.
BODY_LINES = ("The first line.", ".hidden", ".", "..", "The last line.")


class DeliveryScenarios(Base):
    """Mixin: a client that `send`s gives us one message, which is found whole in the Maildir."""

    instance: Instance

    def setUp(self) -> None:
        self.instance = Instance.make("mx.test")
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def send(self, subject: str, implicit_tls: bool) -> None:
        """Send a message with BODY_LINES, from SENDER to RECIPIENT; fail if it is not accepted."""
        raise NotImplementedError

    def port(self, implicit_tls: bool) -> int:
        """Where the client has to connect to."""
        return self.instance.smtps_port if implicit_tls else self.instance.port

    def text(self, subject: str, line_end: str = "\r\n") -> str:
        """The whole message, for clients that are given one."""
        header = [f"From: {SENDER}", f"To: {RECIPIENT}", f"Subject: {subject}"]
        return line_end.join([*header, "", *BODY_LINES, ""])

    def check(self, subject: str, tls: bool = True) -> Message:
        """The message is there once, as it was sent, and tells how it came."""
        message = message_from_string(self.instance.wait_for_mail(subject))
        self.assertEqual(message["From"], SENDER)
        lines = message.get_payload(decode=False)
        assert isinstance(lines, str)
        self.assertEqual(lines.rstrip("\n").split("\n"), list(BODY_LINES))
        received = " ".join(message.get_all("Received", [])[0].split())
        self.assertRegex(received, r"\bby mx\.test\b")
        if tls:
            self.assertRegex(received, r"\bwith (UTF8SMTPS|ESMTPS) id\b")
            self.assertRegex(received, r"TLS_[A-Z0-9_]+|TLSv1\.[23]")
        else:
            self.assertIsNone(re.search(r"ESMTPS|TLS", received), received)
        return message

    def test_starttls(self) -> None:
        """A message sent over STARTTLS arrives whole, and its trace says that it came by TLS."""
        self.send("over STARTTLS", implicit_tls=False)
        self.check("over STARTTLS")

    def test_implicit_tls(self) -> None:
        """A message sent to the port where TLS comes first arrives just so."""
        self.send("over implicit TLS", implicit_tls=True)
        self.check("over implicit TLS")
