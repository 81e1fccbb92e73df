"""The queue in memory."""

from twisted.internet.task import Clock

from harakatls.interfaces import SpoolFull
from harakatls.spool.memory import MemorySpool
from tests.contracts import claiming, staging
from tests.contracts.spool import BODY, delivered, envelope


class MemorySpoolTests(staging.StagingContract, claiming.ClaimingContract):
    """The contract, and what is apart."""

    def make_spool(self, clock: Clock, full: bool = False) -> MemorySpool:
        return MemorySpool(clock, capacity=0 if full else None)

    def test_capacity(self) -> None:
        """A small queue in memory refuses what does not fit, and takes mail again later."""
        self.spool = MemorySpool(self.clock, capacity=3 * len(BODY))
        self.queue("A.1", "a@one.example", "b@two.example")  # one body for two rows
        self.queue("B.1")
        staged = self.stage("C.1", BODY)
        self.raised_by(staged.commit(envelope()), SpoolFull)
        queued = self.claim()
        self.assertEqual([one.id for one in queued], ["A.1.1", "A.1.2", "B.1.1"])
        for one in queued:
            self.settle(delivered(one))
        self.queue("D.1")

    def test_problems(self) -> None:
        """The reason why a message was set aside can be seen."""
        spool = self.spool = MemorySpool(self.clock)
        self.queue()
        [queued] = self.claim()
        self.run_to_end(spool.set_aside(queued, "broken"))
        self.assertEqual(spool.problems, {"A.1.1": "broken"})

    def test_same_id_twice(self) -> None:
        """Two messages of one id cannot push each other out."""
        self.queue("A.1")
        staged = self.stage("A.1", BODY)
        self.raised_by(staged.commit(envelope()), ValueError)
