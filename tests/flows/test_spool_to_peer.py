"""Whole stories: from the spool to servers in memory, by way of runner, routing and delivery."""

from email import message_from_bytes
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.config.hosts import HostList
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import LoadedPlugin
from harakatls.interfaces import IDeliveryObserver, IRouteHook
from harakatls.mail.envelope import Envelope
from harakatls.mail.route import NextHop
from harakatls.outbound.connector import Connector
from harakatls.outbound.delivery import Delivery
from harakatls.outbound.routing import Routing
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.spool.memory import MemorySpool
from harakatls.testing.network import MemoryNetwork, PretendedTLS
from harakatls.testing.peers import BREAK_OFF, ObligingPeer
from harakatls.testing.values import ARRIVED, MESSAGE, SENDER, FixedResolver, envelope
from harakatls.tls.nogo import MemoryTLSMemory
from harakatls.tls.settings import NoGoSettings, OutboundTLS

ME = "mta.example"
MX1, MX2, HOME = "192.0.2.1", "192.0.2.2", "192.0.2.3"
FORCED = OutboundTLS(force_tls_hosts=HostList.parse(["recipient.example"]))


@implementer(IDeliveryObserver)
class Diary:
    """A plugin that writes down what it hears."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    async def delay(self, queued: QueuedMessage, delayed: tuple[Delayed, ...]) -> None:
        return None

    async def bounce(self, queued: QueuedMessage, failed: tuple[Failed, ...]) -> bool:
        return True

    async def delivered(self, queued: QueuedMessage, outcome: Delivered) -> None:
        self.entries.append(f"delivered {outcome.recipient.address}")

    async def delayed(self, queued: QueuedMessage, outcome: Delayed) -> None:
        self.entries.append(f"delayed {outcome.recipient.address}")

    async def failed(self, queued: QueuedMessage, outcome: Failed) -> None:
        self.entries.append(f"failed {outcome.recipient.address}")


@implementer(IRouteHook)
class StaticRoute:
    """A plugin that sends one domain to one host."""

    def __init__(self, domain: str, hop: NextHop) -> None:
        self.domain, self.hop = domain, hop

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        return (self.hop,) if domain == self.domain else None


class FlowTestCase(SynchronousTestCase):
    """recipient.example has two hosts, sender.example has one."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(ARRIVED)
        self.network = MemoryNetwork(self.clock)
        self.spool = MemorySpool(self.clock)
        self.diary = Diary()
        self.tls = PretendedTLS()
        self.resolver = FixedResolver(
            {
                "recipient.example": [(10, "mx1.example"), (20, "mx2.example")],
                "other.example": [(10, "mx2.example")],
                "sender.example": [(10, "home.example")],
            },
            {"mx1.example": [MX1], "mx2.example": [MX2], "home.example": [HOME]},
        )

    def start(
        self,
        *plugins: object,
        tls_settings: OutboundTLS | None = None,
        nogo: NoGoSettings | None = None,
        **settings: Any,
    ) -> None:
        """@param settings: fields of `OutboundSettings`."""
        outbound = OutboundSettings(**settings)
        tls_settings = tls_settings or OutboundTLS()
        loaded = [LoadedPlugin("diary", self.diary)]
        loaded.extend(LoadedPlugin(f"p{n}", plugin) for n, plugin in enumerate(plugins))
        chain = HookChain(loaded, self.clock)
        connector = Connector(
            self.network.connect,
            outbound,
            ME,
            self.clock,
            self.tls,
            tls_settings,
            nogo or NoGoSettings(),
            MemoryTLSMemory(self.clock),
        )
        routing = Routing(chain, self.resolver, outbound, ME, is_ours=lambda address: False)
        delivery = Delivery(routing, connector, self.spool, outbound, ME, self.clock)
        self.runner = QueueRunner(self.spool, chain, delivery, outbound, ME, self.clock)
        self.runner.startService()

    def accept(self, mail: Envelope | None = None) -> None:
        """A message is committed to the spool, as inbound does."""

        async def commit() -> None:
            staged = await self.spool.stage("TX")
            await staged.write(MESSAGE)
            await staged.commit(mail or envelope())

        self.successResultOf(Deferred.fromCoroutine(commit()))
        self.network.flush()

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.network.flush()

    def assertAllIsDone(self) -> None:
        """Nothing is queued, connected or waiting; the service stops at once."""
        self.assertEqual(self.spool._rows, {})
        self.pass_time(10)
        self.successResultOf(self.runner.stopService())
        self.assertEqual([t for t in self.network.transports if t.connected], [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeliveryFlowTests(FlowTestCase):
    """Mail that arrives."""

    def test_over_starttls(self) -> None:
        """A message that was accepted is at its next hop, encrypted, and gone from the queue."""
        peer = ObligingPeer("STARTTLS", "PIPELINING", "SIZE")
        self.network.serve(MX1, peer)
        self.start()
        self.accept()
        self.assertEqual(
            peer.messages,
            [b"Received: (harakatls outbound); Tue, 14 Nov 2023 22:13:20 -0000\r\n" + MESSAGE],
        )
        self.assertTrue(all(said.secured for said in peer.said if said.line.startswith("MAIL")))
        self.assertEqual(self.diary.entries, ["delivered bob@recipient.example"])
        self.assertAllIsDone()

    def test_domains_go_their_own_ways(self) -> None:
        """A message for two domains is two deliveries; the slow one does not hold up the other."""
        other = ObligingPeer()
        self.network.serve(MX2, other)
        self.network.swallow(MX1)
        self.start()
        self.accept(envelope(recipients=["bob@recipient.example", "eve@other.example"]))
        self.assertEqual(self.diary.entries, ["delivered eve@other.example"])
        self.assertEqual(len(self.spool._rows), 1)
        self.network.serve(MX2, ObligingPeer())
        self.pass_time(31)
        self.assertEqual(self.diary.entries[1:], ["delivered bob@recipient.example"])
        self.assertAllIsDone()

    def test_by_a_configured_route(self) -> None:
        """A route hook decides; the DNS is not asked."""
        peer = ObligingPeer()
        self.network.serve("10.0.0.5", peer)
        hop = NextHop("10.0.0.5", "recipient.example", 2525, source="route")
        self.start(StaticRoute("recipient.example", hop))
        self.accept()
        self.assertEqual(self.network.attempts, [("10.0.0.5", 2525)])
        self.assertEqual(len(peer.messages), 1)
        self.assertEqual(self.resolver.asked, [])
        self.assertAllIsDone()

    def test_greylisting(self) -> None:
        """A server that wants to be asked twice gets the message on the second day of asking."""
        self.network.serve(MX1, ObligingPeer(RCPT="450 4.2.0 Greylisted"), ObligingPeer())
        self.network.serve(MX2, ObligingPeer(RCPT="450 4.2.0 Greylisted"))
        self.start(temp_fail_intervals=(300.0,))
        self.accept()
        self.assertEqual(self.diary.entries, ["delayed bob@recipient.example"])
        self.pass_time(301)
        self.assertEqual(self.diary.entries[1:], ["delivered bob@recipient.example"])
        self.assertAllIsDone()

    def test_a_host_with_broken_tls(self) -> None:
        """Mail to it waits one interval, then goes in the clear on a new connection."""
        broken = [ObligingPeer("STARTTLS", handshake=False) for _ in range(2)]
        clear = ObligingPeer("STARTTLS")
        self.network.serve(MX1, *broken, clear)
        self.start(temp_fail_intervals=(60.0,))
        self.accept()
        self.assertEqual(self.diary.entries, ["delayed bob@recipient.example"])
        self.pass_time(61)
        self.assertEqual(len(clear.messages), 1)
        self.assertFalse(any(said.secured for said in clear.said))
        self.assertAllIsDone()

    def test_a_host_that_is_remembered(self) -> None:
        """Its handshake is not tried again, for any message; the attempt says why."""
        broken = ObligingPeer("STARTTLS", handshake=False)
        later = ObligingPeer("STARTTLS", RCPT="450 4.2.1 later")
        clear = ObligingPeer("STARTTLS")
        self.network.serve(MX1, broken, later, clear)
        self.start(nogo=NoGoSettings(enabled=True), temp_fail_intervals=(60.0, 60.0))
        self.accept()
        self.pass_time(61)
        (queued,) = (row.queued for row in self.spool._rows.values())
        reasons = [trial.reasons for trial in queued.history[-1].trials if "mx1" in trial.host]
        self.assertEqual(len(reasons), 1, queued.history[-1])
        self.assertIn("disable_for_failed_hosts: TLS failed with this host at", reasons[0][0])
        self.pass_time(61)
        self.assertEqual(len(clear.messages), 1)
        self.assertFalse(any(said.secured for said in (*later.said, *clear.said)))
        self.assertAllIsDone()


class FailureFlowTests(FlowTestCase):
    """Mail that comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.home = ObligingPeer()
        self.network.serve(HOME, self.home)

    def report(self) -> Any:
        """What arrived at the sender's server."""
        (octets,) = self.home.messages
        return message_from_bytes(octets)

    def text(self) -> str:
        """The part for people, on one line."""
        content = self.report().get_payload()[0].get_payload(decode=True)
        return " ".join(content.decode().split())

    def test_an_unknown_user(self) -> None:
        """The sender gets a report from nobody with the remote server's words."""
        self.network.serve(MX1, ObligingPeer(RCPT="550 5.1.1 No such user"))
        self.start()
        self.accept()
        self.network.flush()
        self.assertIn("MAIL FROM:<>", " ".join(self.home.commands))
        self.assertIn(f"RCPT TO:<{SENDER}>", self.home.commands)
        self.assertEqual(self.report().get_content_type(), "multipart/report")
        self.assertIn("550 5.1.1 No such user", self.text())
        self.assertEqual(
            self.diary.entries, ["failed bob@recipient.example", f"delivered {SENDER}"]
        )
        self.assertAllIsDone()

    def test_retries_to_the_end(self) -> None:
        """Each attempt at its time, each host with its reason, and one report at the end."""
        for _ in range(3):
            self.network.serve(MX1, ObligingPeer(connect="421 4.3.2 Overloaded"))
            self.network.serve(MX2, ObligingPeer(MAIL=BREAK_OFF))
        self.start(temp_fail_intervals=(10.0, 20.0))
        self.accept()
        self.pass_time(10.1)
        self.assertEqual(self.home.messages, [])
        self.pass_time(20.1)
        self.assertEqual(self.diary.entries[:2], ["delayed bob@recipient.example"] * 2)
        self.assertIn("failed bob@recipient.example", self.diary.entries)
        text = self.text()
        self.assertIn("Too many failures", text)
        self.assertIn("mx1.example [192.0.2.1]:25 421 4.3.2 Overloaded", text)
        self.assertIn("mx2.example [192.0.2.2]:25", text)
        self.assertIn("the connection broke while waiting for the answer to MAIL", text)
        self.assertAllIsDone()

    def test_a_forced_host_with_a_wrong_certificate(self) -> None:
        """Nothing is sent in the clear, and the report says why TLS was required and failed."""
        wrong = "certificate is for evil.example, not mx1.example"
        self.tls = PretendedTLS(failure=wrong)
        for host in (MX1, MX2):
            peers = [ObligingPeer("STARTTLS", handshake=False) for _ in range(2)]
            self.network.serve(host, *peers)
        self.start(tls_settings=FORCED, temp_fail_intervals=(10.0,))
        self.accept()
        (queued,) = (row.queued for row in self.spool._rows.values())
        self.assertIn(wrong, str(queued.last_replies["bob@recipient.example"]))
        # The host of the report knows TLS as little; it is not forced and offers none.
        self.pass_time(10.1)
        text = self.text()
        self.assertIn(wrong, text)
        self.assertIn("TLS is required", text)
        self.assertIn("force_tls_hosts", text)
        self.assertAllIsDone()

    def test_a_report_that_cannot_be_delivered(self) -> None:
        """It is dropped with a line in the log; two servers do not bounce for ever."""
        self.network.serve(MX1, ObligingPeer(RCPT="550 5.1.1 No such user"))
        self.home._answers["RCPT"] = "550 5.1.1 No such sender"
        self.start()
        self.accept()
        self.network.flush()
        self.assertEqual(self.diary.entries, ["failed bob@recipient.example", f"failed {SENDER}"])
        self.assertAllIsDone()

    def test_a_domain_without_mail(self) -> None:
        """A null MX is reported at once (RFC 7505)."""
        self.resolver = FixedResolver(
            {"recipient.example": [(0, "")], "sender.example": [(10, "home.example")]},
            {"home.example": [HOME]},
        )
        self.start()
        self.accept()
        self.network.flush()
        self.assertIn("556 5.1.10", self.text())
        self.assertAllIsDone()
