"""How much of a message comes back with a report."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.outbound.original import FULL_OCTETS, HEADER_OCTETS, Original, returned
from harakatls.testing.values import MESSAGE, FixedBody

HEADER = MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 2]


class ReturnedTests(SynchronousTestCase):
    def returned(self, message: bytes, full: bool) -> Original:
        body = returned(FixedBody(message), full)
        return self.successResultOf(Deferred.fromCoroutine(body))

    def test_the_header(self) -> None:
        """Without RET=FULL nothing of the text is sent about again."""
        self.assertEqual(self.returned(MESSAGE, False), Original(HEADER))

    def test_all_of_it(self) -> None:
        """RET=FULL: every octet, up to the limit."""
        largest = MESSAGE + b"x" * (FULL_OCTETS - len(MESSAGE))
        for message in (MESSAGE, largest):
            found = self.returned(message, True)
            self.assertEqual(found, Original(message, True))
            self.assertEqual(found.header, HEADER)

    def test_too_much(self) -> None:
        """Nobody can have somebody else sent a large message by forging the sender."""
        large = MESSAGE + b"x" * FULL_OCTETS
        self.assertEqual(self.returned(large, True), Original(HEADER))

    def test_a_header_without_end(self) -> None:
        """It is cut."""
        found = self.returned(b"X-Long: 0123456789\r\n" * 10_000, False)
        self.assertLessEqual(len(found.content), HEADER_OCTETS)
