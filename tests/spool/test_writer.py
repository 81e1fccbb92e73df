"""What is asked for at the same time."""

import sqlite3

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from harakatls.interfaces import SpoolDamaged, SpoolFull
from harakatls.mail.address import Address
from harakatls.mail.envelope import Recipient
from harakatls.spool.sqlite import LEASE, listing
from tests.contracts.spool import ARRIVED, BODY, LARGE, delivered, envelope
from tests.spool.support import SQLiteCase, failure


class GroupTests(SQLiteCase):
    """What is asked for at the same time."""

    def test_one_transaction_and_one_wake_up(self) -> None:
        """Twenty senders cost one sync of the disk, and wake the server once."""
        statements: list[str] = []
        self.spool.writer._connection.set_trace_callback(statements.append)
        woken = []
        real = self.spool._call_from_thread
        self.spool._call_from_thread = lambda *call: woken.append(real(*call))
        told = []
        self.spool.when_added(lambda _: told.append(1))
        staged = [self.stage(f"{number}.1", BODY) for number in range(20)]
        with self.held():
            outcomes = [Deferred.fromCoroutine(one.commit(envelope())) for one in staged]
        for number, outcome in enumerate(outcomes):
            self.assertEqual(self.successResultOf(outcome), f"{number}.1")
        self.assertEqual(
            [s.split(" ")[0] for s in statements], ["BEGIN", "INSERT", "INSERT", "COMMIT"]
        )
        self.assertEqual((len(woken), len(told)), (1, 1))
        bodies_found = [self.read(self.spool.open_body(queued)) for queued in self.claim()]
        self.assertEqual(bodies_found, [BODY] * 20)

    def test_large_group(self) -> None:
        """Each message of a large group gets its own body, whatever the slices."""
        staged = [
            self.stage(f"{number}.1", b"%d" % number, *([LARGE] if number % 50 == 3 else []))
            for number in range(150)
        ]
        with self.held():
            outcomes = [
                Deferred.fromCoroutine(
                    one.commit(envelope(*[f"a@{d}.example" for d in range(1 + number % 3)]))
                )
                for number, one in enumerate(staged)
            ]
        for outcome in outcomes:
            self.successResultOf(outcome)
        queued = self.claim(1000)
        self.assertEqual(len(queued), 300)
        for one in queued:
            number = int(one.id.split(".")[0])
            body = self.read(self.spool.open_body(one))
            self.assertEqual(body, b"%d" % number + (LARGE if number % 50 == 3 else b""))
        with self.held():
            settled = [Deferred.fromCoroutine(self.spool.settle(delivered(q))) for q in queued]
        for one_settled in settled:
            self.successResultOf(one_settled)
        self.assertEqual((list(listing(self.directory)), self.body_files()), ([], []))

    def test_one_fails_alone(self) -> None:
        """A message that cannot be stored takes no other with it."""
        broken_address = Recipient(Address("a", "\ud800.example"))
        staged = [self.stage(f"{number}.1", BODY) for number in range(3)]
        envelopes = [envelope(), evolve(envelope(), recipients=(broken_address,)), envelope()]
        with self.held():
            outcomes = [
                Deferred.fromCoroutine(one.commit(to))
                for one, to in zip(staged, envelopes, strict=True)
            ]
        self.successResultOf(outcomes[0])
        self.failureResultOf(outcomes[1], UnicodeEncodeError)
        self.successResultOf(outcomes[2])
        self.assertEqual([queued.id for queued in self.claim()], ["0.1.1", "2.1.1"])

    def test_bounce_and_settlement_are_one(self) -> None:
        """Where a bounce cannot be queued, what it is about is still there; and the other way."""
        self.queue("A.1")
        [queued] = self.claim()
        self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "database or disk is full"))
        staged = self.stage("B.1", b"bounce")
        self.raised_by(staged.commit(envelope(), settling=delivered(queued)), SpoolFull)
        self.assertEqual([one.id for one in listing(self.directory)], ["A.1.1"])
        self.failing("DELETE FROM body", failure(sqlite3.SQLITE_CORRUPT, "malformed"))
        staged = self.stage("C.1", b"bounce")
        self.raised_by(staged.commit(envelope(), settling=delivered(queued)), SpoolDamaged)
        self.assertEqual([one.id for one in listing(self.directory)], ["A.1.1"])
        staged = self.stage("D.1", b"bounce")
        self.run_to_end(staged.commit(envelope(), settling=delivered(queued)))
        self.assertEqual([one.id for one in listing(self.directory)], ["D.1.1"])

    def test_sender_that_left(self) -> None:
        """A message whose sender left while it was committed is kept, file and all."""
        staged = self.stage("A.1", LARGE)
        with self.held():
            outcome = Deferred.fromCoroutine(staged.commit(envelope()))
            outcome.cancel()
            self.failureResultOf(outcome, CancelledError)
            self.run_to_end(staged.abort())
        del staged
        [queued] = self.claim()
        self.assertEqual(self.read(self.spool.open_body(queued)), LARGE)

    def test_sender_that_left_without_space(self) -> None:
        """Where that commit fails, nothing is left behind."""
        staged = self.stage("A.1", LARGE)
        self.failing("COMMIT", failure(sqlite3.SQLITE_FULL, "database or disk is full"))
        with self.held():
            outcome = Deferred.fromCoroutine(staged.commit(envelope()))
            outcome.cancel()
            self.failureResultOf(outcome, CancelledError)
            self.run_to_end(staged.abort())
        self.assertEqual((self.claim(), self.body_files()), ([], []))

    def test_claim_that_nobody_waits_for(self) -> None:
        """Messages claimed for a runner that has gone are free for the next one."""
        self.queue()
        told = []
        self.spool.when_added(lambda _: told.append(1))
        with self.held():
            outcome = Deferred.fromCoroutine(self.spool.claim(ARRIVED, 10))
            outcome.cancel()
            self.failureResultOf(outcome, CancelledError)
        self.assertEqual(told, [1])
        self.assertEqual(len(self.claim()), 1)

    def test_settling_that_nobody_waits_for(self) -> None:
        """An outcome is recorded even when the runner goes away meanwhile."""
        self.queue()
        [queued] = self.claim()
        with self.held():
            outcome = Deferred.fromCoroutine(self.spool.settle(delivered(queued)))
            outcome.cancel()
            self.failureResultOf(outcome, CancelledError)
        self.assertEqual(list(listing(self.directory)), [])
        self.clock.advance(10 * LEASE)
        self.assertEqual(self.logged("warn"), [])

    def test_messages_of_one_id(self) -> None:
        """Two messages that were given one id are both delivered."""
        self.queue("A.1", body=b"one")
        self.queue("A.1", body=b"two")
        found = []
        for _ in range(2):
            [queued] = self.claim()
            found.append(self.read(self.spool.open_body(queued)))
            self.settle(delivered(queued))
            self.clock.advance(60)
        self.assertEqual(found, [b"one", b"two"])
        self.assertEqual(list(listing(self.directory)), [])
