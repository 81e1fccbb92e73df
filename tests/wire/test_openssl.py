"""`openssl s_client` talks to the running server, as a person does who looks at its TLS."""

import select
import subprocess
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import need
from tests.wire.clients import RECIPIENT, SENDER, DeliveryScenarios

REPLY_LIMIT = 20.0  # seconds


class Dialogue:
    """Lines to s_client and replies from it."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-quiet", "-crlf", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._received = b""

    def say(self, text: str) -> str:
        """Send lines, and give the last line of the reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.reply()

    def reply(self) -> str:
        """The last line of the next reply; "" if it does not come in time."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + REPLY_LIMIT
        while True:
            *lines, rest = self._received.split(b"\r\n")
            for number, line in enumerate(lines):
                if line[3:4] == b" ":
                    self._received = b"\r\n".join([*lines[number + 1 :], rest])
                    return line.decode()
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            more = self.process.stdout.read1(65536) if ready else b""  # type: ignore[attr-defined]
            if not more:
                return ""
            self._received += more

    def end(self) -> str:
        """What s_client said on its standard error until it ended, or was ended."""
        try:
            self.process.wait(REPLY_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self.process.communicate()[1].decode(errors="replace")


class OpenSSLTests(DeliveryScenarios, SynchronousTestCase):
    """The certificate is checked for our name, and an error ends s_client."""

    def setUp(self) -> None:
        need("openssl")
        super().setUp()

    def open(self, implicit_tls: bool, *args: str) -> Dialogue:
        trust = ["-CAfile", str(self.instance.authority), "-verify_return_error"]
        where = ["-connect", f"127.0.0.1:{self.port(implicit_tls)}", "-servername", "mx.test"]
        if not implicit_tls:
            where += ["-starttls", "smtp", "-name", "client.test"]
        return Dialogue(*trust, *where, *args)

    def send(self, subject: str, implicit_tls: bool) -> None:
        dialogue = self.open(implicit_tls, "-verify_hostname", "mx.test")
        try:
            if implicit_tls:  # else s_client has read the greeting itself
                self.assertRegex(dialogue.reply(), "^220 ")
            self.assertRegex(dialogue.say("EHLO client.test"), "^250 ")
            self.assertRegex(dialogue.say(f"MAIL FROM:<{SENDER}>"), "^250 ")
            self.assertRegex(dialogue.say(f"RCPT TO:<{RECIPIENT}>"), "^250 ")
            self.assertRegex(dialogue.say("DATA"), "^354 ")
            stuffed = self.text(subject, "\n").replace("\n.", "\n..")
            self.assertRegex(dialogue.say(stuffed + "."), "^250 ")
            self.assertRegex(dialogue.say("QUIT"), "^221 ")
        finally:
            errors = dialogue.end()
        self.assertNotIn("error:", errors)

    def test_wrong_name(self) -> None:
        """A client that asks for another name finds out that it is not there."""
        dialogue = self.open(False, "-verify_hostname", "other.test")
        dialogue.reply()
        errors = dialogue.end()
        self.assertIn("hostname mismatch", errors.lower())
        self.assertNotEqual(dialogue.process.returncode, 0)

    def test_old_protocol(self) -> None:
        """TLS 1.1 and below are refused, and the server goes on."""
        dialogue = self.open(False, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        dialogue.reply()
        errors = dialogue.end()
        self.assertIn("alert", errors.lower())
        self.assertNotEqual(dialogue.process.returncode, 0)
        self.send("after a failed handshake", implicit_tls=False)
        self.check("after a failed handshake")
