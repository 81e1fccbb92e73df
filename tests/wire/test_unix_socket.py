"""A mail store on a Unix socket of this machine."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.trial.unittest import TestCase

from harakatls.mail.route import LMTP
from harakatls.outbound.connector import Connector
from harakatls.outbound.delivery import Delivery, Result
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.outbound.tcp import over_tcp
from harakatls.plugins.next_hops import parse_next_hop
from harakatls.queued import Delayed, Delivered
from harakatls.testing.network import PretendedTLS
from harakatls.testing.values import FixedResolver, queued_message
from harakatls.tls.settings import OutboundTLS
from tests.outbound.support import DOMAIN, ME, Bodies, NoPlugins


class Store(LineReceiver):
    """Takes everything."""

    def connectionMade(self) -> None:
        self.commands: list[str] = []
        self.factory.stores.append(self)
        self.sendLine(b"220 store.example LMTP")

    def lineReceived(self, line: bytes) -> None:
        command = line.decode()
        self.commands.append(command)
        verb = command.split(" ")[0]
        answers = {"LHLO": "250-store\r\n250 STARTTLS", "DATA": "354 Go on", ".": "250 2.1.5 Kept"}
        if verb in (*answers, "MAIL", "RCPT", "QUIT"):
            self.sendLine(answers.get(verb, "250 2.0.0 Ok").encode())


class UnixSocketTests(TestCase):
    def setUp(self) -> None:
        # Where a path is short enough for a socket, whatever trial works in.
        directory = Path(mkdtemp(prefix="hs"))
        self.addCleanup(directory.rmdir)
        self.path = directory / "lmtp"
        self.stores: list[Store] = []

    def listen(self) -> None:
        factory: Any = Factory.forProtocol(Store)
        factory.stores = self.stores
        listening: Any = reactor.listenUNIX(str(self.path), factory)  # type: ignore[attr-defined]
        self.addCleanup(listening.stopListening)

    def attempt(self) -> "Deferred[Result]":
        """One message for the store; everybody asks for TLS with everybody."""
        settings = OutboundSettings(received_header=None, pool_timeout=0.0)
        tls = OutboundTLS(reject_unauthorized=True)
        connect, clock = over_tcp(reactor), reactor
        connector = Connector(connect, settings, ME, clock, PretendedTLS(), tls)
        self.addCleanup(connector.close)
        hop = parse_next_hop(f"lmtp://{self.path}")
        self.assertEqual(hop.protocol, LMTP)
        routing = Routing(
            NoPlugins((evolve(hop, domain=DOMAIN),)), FixedResolver({}, {}), settings, ME
        )
        spool: Any = Bodies()
        delivery = Delivery(routing, connector, spool, settings, ME, clock)
        return Deferred.fromCoroutine(delivery.attempt(queued_message()))

    async def test_delivered(self) -> None:
        """In the clear, since there is nobody in between; the history names the path."""
        self.listen()
        result = await self.attempt()
        (outcome,) = result.outcomes
        assert isinstance(outcome, Delivered), outcome
        (store,) = self.stores
        self.assertEqual(store.commands[0], f"LHLO {ME}")
        self.assertNotIn("STARTTLS", store.commands)
        (trial,) = result.trials
        self.assertEqual(trial.host, str(self.path))
        self.assertEqual(trial.reasons, ("a Unix socket: it does not leave this machine",))

    async def test_nobody_there(self) -> None:
        """The mail waits, and it is told what is wrong."""
        result = await self.attempt()
        (outcome,) = result.outcomes
        assert isinstance(outcome, Delayed), outcome
        self.assertEqual(
            str(outcome.reply), f"451 4.4.1 {self.path}: no connection: No such file or directory"
        )
