"""What the sender of a message wants of TLS, from reception to the queue (RFC 8689)."""

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.envelope import Envelope, TLSWish
from tests.hooks.plugins import Everything
from tests.inbound.support import DATA, EHLO, END, MAIL, RCPT, SETTINGS, RefusingTLS, Talk

TAGGED = b"MAIL FROM:<alice@sender.example> REQUIRETLS\r\n"
OPTIONAL = b"TLS-Required: No\r\nSubject: hello\r\n\r\nHello Bob.\r\n"
PLAIN = b"Subject: hello\r\n\r\nHello Bob.\r\n"


class RequireTLSTests(SynchronousTestCase):
    def talk(self, port: int = 465) -> Talk:
        talk = Talk(Everything(relaying=True), tls=RefusingTLS(), implicit_tls=True, port=port)
        talk.secured()
        talk.heard()
        return talk

    def queued(self, talk: Talk) -> list[tuple[Envelope, bytes]]:
        async def collect() -> list[tuple[Envelope, bytes]]:
            return [
                (message.envelope, await talk.spool.open_body(message).read(1 << 20))
                for message in await talk.spool.claim(float("inf"), 100)
            ]

        return self.successResultOf(Deferred.fromCoroutine(collect()))

    def test_tagged(self) -> None:
        """Said with MAIL, within TLS: it is in the queue and in the trace."""
        for port in (25, 465, 587):
            talk = self.talk(port)
            self.assertIn("REQUIRETLS\r\n", talk.say(EHLO))
            self.assertEqual(talk.codes(TAGGED, RCPT, DATA), ["250", "250", "354"])
            talk.say(PLAIN, END)
            ((envelope, octets),) = self.queued(talk)
            self.assertIs(envelope.tls_wish, TLSWish.REQUIRED)
            self.assertIn(b"\r\n\t(REQUIRETLS);\r\n", octets)

    def test_switched_off(self) -> None:
        """requiretls=false of connection.ini."""
        settings = evolve(SETTINGS, requiretls=False)
        talk = Talk(Everything(), tls=RefusingTLS(), implicit_tls=True, settings=settings)
        talk.secured()
        self.assertNotIn("REQUIRETLS", talk.say(EHLO))
        self.assertEqual(talk.codes(TAGGED), ["555"])

    def test_in_the_clear(self) -> None:
        """It is not offered, and not taken."""
        talk = Talk(Everything(relaying=True))
        self.assertNotIn("REQUIRETLS", talk.say(EHLO))
        self.assertEqual(talk.say(TAGGED)[:10], "523 5.7.10")
        self.assertEqual(talk.codes(MAIL), ["250"])

    def test_tls_required_no(self) -> None:
        """The header counts, in the clear as well, and goes on with the message."""
        talk = Talk(Everything(relaying=True))
        talk.until_data()
        for at in range(0, len(OPTIONAL), 7):
            talk.conversation.received(OPTIONAL[at : at + 7])
        talk.say(END)
        ((envelope, octets),) = self.queued(talk)
        self.assertIs(envelope.tls_wish, TLSWish.OPTIONAL)
        self.assertTrue(octets.endswith(OPTIONAL))

    def test_for_one_message(self) -> None:
        """The next one on the connection is judged by its own header."""
        talk = Talk(Everything(relaying=True))
        talk.until_data()
        talk.say(OPTIONAL, END)
        talk.codes(MAIL, RCPT, DATA)
        talk.say(PLAIN, END)
        wishes = [envelope.tls_wish for envelope, _ in self.queued(talk)]
        self.assertEqual(wishes, [TLSWish.OPTIONAL, TLSWish.NONE])

    def test_both(self) -> None:
        """REQUIRETLS counts, and the header does not (section 3)."""
        talk = self.talk()
        talk.codes(EHLO, TAGGED, RCPT, DATA)
        talk.say(OPTIONAL, END)
        ((envelope, octets),) = self.queued(talk)
        self.assertIs(envelope.tls_wish, TLSWish.REQUIRED)
        self.assertFalse(envelope.tls_optional)
        self.assertIn(b"TLS-Required: No\r\n", octets)
