"""Mail handed on while the client waits, and the sender who asked to hear (RFC 3461 5.2)."""

from email import message_from_bytes
from typing import Any

from attrs import evolve

from harakatls.connection import Transaction
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import LoadedPlugin
from harakatls.mail.envelope import Envelope
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.reports import SuccessReports
from harakatls.plugins.smtp_forward import load as load_forward
from harakatls.plugins.smtp_proxy import load as load_proxy
from harakatls.plugins.spool import DurableQueue
from harakatls.spool.memory import MemorySpool
from harakatls.testing.peers import HANG_UP, ObligingPeer
from harakatls.testing.values import MESSAGE, SENDER
from harakatls.verdict import Accept, Verdict
from tests.plugins.back_ends import FIRST, BackEndCase
from tests.plugins.support import connection_from, transaction_for

INI = "host=back1.example\n"
ANN, BOB = "ann@one.example", "bob@one.example"
TAKEN = "250 2.1.5 Taken as 42"
SUCCESS = frozenset({"SUCCESS"})


class RelayedCase(BackEndCase):
    def send(self, plugin: Any, *wishing: str, sender: str | None = SENDER) -> Verdict:
        """
        One message for Ann and Bob through the hooks, as a client's.

        @param wishing: of whom its sender wants to hear.
        """
        chain = HookChain((LoadedPlugin("back end", plugin),), self.clock, DurableQueue())
        reports = SuccessReports(self.spool, chain, Reporter("mta.example"), self.clock)
        chain.success_reports = reports
        transaction = transaction_for(ANN, BOB, sender=sender)
        recipients = tuple(
            evolve(who, notify=SUCCESS) if str(who.address) in wishing else who
            for who in transaction.envelope.recipients
        )
        envelope = evolve(transaction.envelope, recipients=recipients)
        return self.ask(self._sent(chain, evolve(transaction, envelope=envelope)))

    async def _sent(self, chain: HookChain, transaction: Transaction) -> Verdict:
        connection, whole = connection_from(), transaction.envelope
        bare = evolve(transaction, envelope=evolve(whole, recipients=()))
        await chain.mail(connection, bare)
        for recipient in whole.recipients:
            await chain.accepted_rcpt(connection, bare, recipient)
        staged = await MemorySpool.stage(self.spool, "TX.1")
        await staged.write(MESSAGE)
        return await chain.queue(connection, transaction, staged)

    def queued(self) -> list[tuple[Envelope, Any]]:
        """The messages in our queue, parsed, with their envelopes."""
        return [
            (row.queued.envelope, message_from_bytes(row.body)) for row in self.spool._rows.values()
        ]

    def report(self) -> Any:
        """The groups about recipients in the one report, which is all that is in the queue."""
        ((envelope, report),) = self.queued()
        self.assertIsNone(envelope.reverse_path)
        self.assertEqual([str(who.address) for who in envelope.recipients], [SENDER])
        _, status, original = report.get_payload()
        self.assertIn("Subject: hello", original.get_payload())
        _, *groups = status.get_payload()
        return groups

    def plugins(self) -> Any:
        """Both, one after the other, each in a world of its own."""
        for load, name in ((load_forward, "smtp_forward"), (load_proxy, "smtp_proxy")):
            self.setUp()
            yield load(self.site(**{name: INI}))


class RelayedTests(RelayedCase):
    def test_a_back_end_without_dsn(self) -> None:
        """It will never tell the sender, so we do: of whom that was asked, in its words."""
        for plugin in self.plugins():
            self.serve(FIRST, ObligingPeer(end=TAKEN))
            self.assertIsInstance(self.send(plugin, BOB), Accept)
            (group,) = self.report()
            self.assertEqual(group["Final-Recipient"], f"rfc822; {BOB}")
            self.assertEqual(group["Action"], "relayed")
            self.assertEqual(group["Status"], "2.1.5")
            self.assertEqual(group["Remote-MTA"], "dns; back1.example")
            self.assertEqual(group["Diagnostic-Code"], f"smtp; {TAKEN}")

    def test_a_back_end_with_dsn(self) -> None:
        """It is told of the wish, and sees to it."""
        for plugin in self.plugins():
            peer = ObligingPeer("DSN")
            self.serve(FIRST, peer)
            self.assertIsInstance(self.send(plugin, BOB), Accept)
            self.assertIn(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS", peer.commands)
            self.assertEqual(self.queued(), [])

    def test_nobody_asked(self) -> None:
        """Who did not ask is not told; nor is nobody."""
        for plugin in self.plugins():
            self.serve(FIRST, ObligingPeer(), ObligingPeer())
            self.assertIsInstance(self.send(plugin), Accept)
            self.assertIsInstance(self.send(plugin, BOB, sender=None), Accept)
            self.assertEqual(self.queued(), [])

    def test_refused(self) -> None:
        """What the back end has not taken is not told as taken."""
        for plugin in self.plugins():
            self.serve(FIRST, ObligingPeer(end="554 5.6.0 Virus"))
            self.assertNotIsInstance(self.send(plugin, BOB), Accept)
            self.assertEqual(self.queued(), [])
        for plugin in self.plugins():
            self.serve(FIRST, ObligingPeer(end=HANG_UP))
            self.assertNotIsInstance(self.send(plugin, BOB), Accept)
            self.assertEqual(self.queued(), [])


class PartTests(RelayedCase):
    def test_over_lmtp(self) -> None:
        """A mail store has it for good: delivered. Who waits is told when it is so."""
        plugin = load_forward(self.site(smtp_forward=f"{INI}using_lmtp=true\n"))
        self.serve(FIRST, ObligingPeer(end=f"{TAKEN}\n452 4.2.2 Full"))
        self.assertIsInstance(self.send(plugin, ANN, BOB), Accept)
        reports = [mail for envelope, mail in self.queued() if envelope.reverse_path is None]
        (status,) = [report.get_payload()[1] for report in reports]
        self.assertIn(f"Final-Recipient: rfc822; {ANN}\nAction: delivered", str(status))
        self.assertNotIn(BOB, str(status))
