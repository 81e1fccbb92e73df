"""Mail delivered on this machine, and the sender who wants to know (RFC 3461 section 5.2)."""

from email import message_from_bytes
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.connection import Connection, Transaction
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import LoadedPlugin
from harakatls.interfaces import IQueueHook, IStagedMessage, ISuccessReports, SpoolFull
from harakatls.mail.envelope import Envelope
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.reports import SuccessReports
from harakatls.plugins.spool import DurableQueue
from harakatls.spool.memory import MemorySpool
from harakatls.testing.values import MESSAGE, SENDER, connection, envelope, transaction
from harakatls.verdict import CONTINUE, Accept, Verdict


@implementer(IQueueHook)
@frozen
class Mailboxes:
    """Takes bob at recipient.example."""

    delivered: bool = True

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        ours = frozenset(
            r.address for r in transaction.envelope.recipients if r.address.local_part == "bob"
        )
        return Accept(recipients=ours, delivered=self.delivered) if ours else CONTINUE


class LocalSuccessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.spool = MemorySpool(self.clock)

    def take(self, mail: Envelope, plugin: Mailboxes = Mailboxes()) -> Verdict:
        """What the queue plugins say of a message."""
        chain = HookChain((LoadedPlugin("mailboxes", plugin),), self.clock, DurableQueue())
        reports = SuccessReports(self.spool, chain, Reporter("mta.example"), self.clock)
        self.assertTrue(ISuccessReports.providedBy(reports))
        chain.success_reports = reports
        return self.successResultOf(Deferred.fromCoroutine(self._take(chain, mail)))

    async def _take(self, chain: HookChain, mail: Envelope) -> Verdict:
        staged = await self.stage("TX.1")
        await staged.write(MESSAGE)
        return await chain.queue(connection(), transaction(envelope=mail), staged)

    async def stage(self, message_id: str) -> IStagedMessage:
        return await MemorySpool.stage(self.spool, message_id)

    def queued(self) -> list[Any]:
        """The messages in the queue, parsed, with their envelopes."""
        return [
            (row.queued.envelope, message_from_bytes(row.body)) for row in self.spool._rows.values()
        ]

    def wishing(self, *notify: str, sender: str | None = SENDER) -> Envelope:
        mail = envelope(sender)
        return evolve(
            mail, recipients=tuple(evolve(r, notify=frozenset(notify)) for r in mail.recipients)
        )

    def test_told(self) -> None:
        """Who asked learns that the mail is in the mailbox."""
        self.assertIsInstance(self.take(self.wishing("SUCCESS")), Accept)
        ((told, report),) = self.queued()
        self.assertIsNone(told.reverse_path)
        self.assertEqual([str(r.address) for r in told.recipients], [SENDER])
        group = report.get_payload()[1].get_payload()[1]
        self.assertEqual(group["Action"], "delivered")
        self.assertEqual(group["Status"], "2.0.0")
        self.assertEqual(group["Final-Recipient"], "rfc822; bob@recipient.example")
        self.assertIn("Subject: hello", report.get_payload()[2].get_payload())

    def test_not_told(self) -> None:
        """Nobody else is, and never a message from nobody."""
        for mail, plugin in (
            (self.wishing(), Mailboxes()),
            (self.wishing("NEVER"), Mailboxes()),
            (self.wishing("FAILURE", "DELAY"), Mailboxes()),
            (self.wishing("SUCCESS", sender=None), Mailboxes()),
            (self.wishing("SUCCESS"), Mailboxes(delivered=False)),
        ):
            self.assertIsInstance(self.take(mail, plugin), Accept)
            self.assertEqual(self.queued(), [])

    def test_a_sender_at_home(self) -> None:
        """The report goes where the sender's mail goes: the mailbox here, not the world."""
        self.take(self.wishing("SUCCESS", sender="bob@recipient.example"))
        self.assertEqual(self.queued(), [])

    def test_no_space(self) -> None:
        """A full disk costs the report, not the mail, which has been delivered."""

        async def full(message_id: str) -> Any:
            raise SpoolFull("no space")

        self.spool.stage = full  # type: ignore[method-assign]
        self.assertIsInstance(self.take(self.wishing("SUCCESS")), Accept)
        self.assertEqual(self.queued(), [])
