"""The running server hands mail to Postfix with BDAT (RFC 3030)."""

from tests.interop.postfix import Postfix
from tests.interop.relaying import RECIPIENT, SENDER, RelayCase

DOTS = "".join(f"{'.' * (n % 4)}Line {n} ü\r\n" for n in range(200))


class ChunkTests(RelayCase):
    postfix: Postfix

    def start(self, options: str = "", **settings: str) -> None:
        """@param options: of outbound.ini. @param settings: of Postfix."""
        self.postfix = Postfix("dest.test", settings)
        self.addCleanup(self.postfix.remove)
        self.postfix.start()
        hop = f"localhost:{self.postfix.port}"
        self.start_instance({"dest.test": hop}, {"outbound.ini": options})

    def deliver(self, subject: str, text: str) -> str:
        """@return: Postfix's line about the connection, with the commands it counted."""
        message = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\n{text}"
        with self.client() as client:
            client.sendmail(SENDER, [RECIPIENT], message.encode(), ["BODY=8BITMIME"])
        arrived = self.postfix.wait_for_mail(subject)
        body = arrived.encode("utf-8", "surrogateescape").decode().partition("\n\n")[2]
        self.assertEqual(body, text.replace("\r\n", "\n"))
        return self.postfix.wait_for_log(" ehlo=")

    def test_small_and_large(self) -> None:
        """In one flight or in two, lines that begin with dots arrive as they were."""
        self.start()
        self.assertIn(" bdat=1 ", self.deliver("small", DOTS))
        self.deliver("large", DOTS * 200)
        self.assertNotIn(" data=1", self.postfix.log())

    def test_not_offered(self) -> None:
        """A Postfix that does not offer CHUNKING gets DATA."""
        self.start(smtpd_discard_ehlo_keywords="chunking")
        self.assertIn(" data=1 ", self.deliver("by DATA", DOTS))

    def test_switched_off(self) -> None:
        """So does every server with chunking=false."""
        self.start("chunking=false\n")
        self.assertIn(" data=1 ", self.deliver("by DATA", DOTS))

    def test_without_8bitmime(self) -> None:
        """A Postfix that takes 7-bit alone gets a text that reads the same."""
        self.start(smtpd_discard_ehlo_keywords="8bitmime, chunking")
        message = f"From: {SENDER}\r\nSubject: seven\r\n\r\n{DOTS}"
        with self.client() as client:
            client.sendmail(SENDER, [RECIPIENT], message.encode(), ["BODY=8BITMIME"])
        arrived = self.postfix.wait_for_mail("seven")
        self.assertTrue(arrived.isascii())
        self.assertIn("Content-Transfer-Encoding: quoted-printable", arrived)
        self.assertIn("Line 199 =C3=BC", arrived)
