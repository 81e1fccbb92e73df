"""What a worker has in hand."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.queued import QueuedMessage
from harakatls.spool.claims import LONGEST, Claims
from harakatls.spool.requests import Claimed, SetAside
from tests.contracts.spool import delivered, envelope

ROW = Claimed(1, 11, shared=False, streamed=False)
OTHER = Claimed(2, 12, shared=False, streamed=False)


def queued(message_id: str) -> QueuedMessage:
    """That is due at 5."""
    to = envelope()
    return QueuedMessage(message_id, to, "one.example", 0.0, 5.0, 7, to.recipients)


class ClaimsTests(SynchronousTestCase):
    """`Claims`."""

    def setUp(self) -> None:
        self.claims = Claims()

    def test_settled(self) -> None:
        """What was settled is not in hand any more, and its claim ends once."""
        message = queued("A.1.1")
        self.assertEqual(self.claims.add([(ROW, message)], 0.0), ([message], []))
        self.assertEqual((len(self.claims), self.claims.row("A.1.1")), (1, ROW))
        settlement = self.claims.settlement(delivered(message))
        assert settlement is not None
        self.assertEqual((settlement.kept, settlement.problem), (None, None))
        settlement.result = True
        self.claims.settled(settlement)
        self.assertEqual(len(self.claims), 0)
        self.assertIsNone(self.claims.settlement(message))
        self.assertEqual(self.claims.give_up(1e9), {})

    def test_kept(self) -> None:
        """What is still pending is kept until it is due."""
        message = queued("A.1.1")
        self.claims.add([(ROW, message)], 0.0)
        settlement = self.claims.settlement(message)
        assert settlement is not None and settlement.kept is not None
        self.assertEqual(settlement.kept[0], 5.0)

    def test_set_aside(self) -> None:
        """What could not be read was never in hand."""
        self.assertEqual(self.claims.add([SetAside("A.1.1", "broken")], 0.0), ([], []))
        self.assertEqual(len(self.claims), 0)

    def test_twins(self) -> None:
        """A second row of one id is not taken while the first is in hand."""
        message = queued("A.1.1")
        found = [(ROW, message), (OTHER, message)]
        self.assertEqual(self.claims.add(found, 0.0), ([message], [OTHER]))
        self.assertEqual(self.claims.row("A.1.1"), ROW)

    def test_claimed_anew(self) -> None:
        """A claim that was lost and made again counts from then."""
        message = queued("A.1.1")
        self.claims.add([(ROW, message)], 0.0)
        self.claims.not_settled("A.1.1", 10.0)
        again = Claimed(1, 11, shared=False, streamed=False)
        self.assertEqual(self.claims.add([(again, message)], 5.0), ([message], []))
        self.assertEqual(self.claims.give_up(5.0 + LONGEST - 1), {})
        self.assertEqual(self.claims.give_up(5.0 + LONGEST), {"A.1.1": again})

    def test_given_up(self) -> None:
        """A claim that nobody settles ends; sooner where settling it has failed."""
        for name, row in (("A.1.1", ROW), ("B.1.1", OTHER)):
            self.claims.add([(row, queued(name))], 0.0)
        self.claims.not_settled("A.1.1", 100.0)
        self.claims.not_settled("C.1.1", 100.0)
        self.assertEqual(self.claims.give_up(99.0), {})
        self.assertEqual(self.claims.give_up(100.0), {"A.1.1": ROW})
        self.assertIsNone(self.claims.row("A.1.1"))
        self.assertEqual(self.claims.give_up(LONGEST), {"B.1.1": OTHER})

    def test_taken_back(self) -> None:
        """Rows that could not be released are tried again."""
        self.claims.add([(ROW, queued("A.1.1"))], 0.0)
        self.claims.take_back(self.claims.give_up(LONGEST), LONGEST)
        self.assertEqual(self.claims.give_up(LONGEST), {"A.1.1": ROW})
