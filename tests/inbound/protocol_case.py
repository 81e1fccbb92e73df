"""A listening port with all around it in memory, and connections to it."""

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.hooks.chain import HookChain
from harakatls.inbound.factory import InboundFactory
from harakatls.inbound.port import Port
from harakatls.inbound.protocol import InboundProtocol
from harakatls.inbound.settings import ListenerSettings
from harakatls.plugins.spool import DurableQueue
from harakatls.plugins.tls import StartTLSOffer
from harakatls.spool.memory import MemorySpool
from harakatls.verdict import ACCEPT
from tests.hooks.plugins import Everything, loaded
from tests.inbound.support import SETTINGS
from tests.inbound.transports import MemoryTransport, RecordingTLS


class FactoryTestCase(SynchronousTestCase):
    """
    With a plugin that accepts all recipients.

    @cvar address: of the port.
    """

    settings = SETTINGS
    address = "198.51.100.1", 25

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.spool = MemorySpool(self.clock)
        self.tls = RecordingTLS()
        self.plugin = Everything(rcpt=ACCEPT)

    def factory(self, implicit_tls: bool = False) -> InboundFactory:
        tls: Any = self.tls
        plugins = [loaded(StartTLSOffer(tls), "tls"), loaded(self.plugin)]
        chain = HookChain(plugins, self.clock, DurableQueue())
        listener = ListenerSettings(*self.address, implicit_tls)
        return InboundFactory(
            Port(listener, self.settings, chain, self.spool, tls, "mx.example", self.clock)
        )


class ProtocolTestCase(FactoryTestCase):
    """Connections of clients that come by themselves."""

    settings = evolve(SETTINGS, inactivity_timeout=300.0, handshake_timeout=30.0)

    def connect(
        self, factory: InboundFactory | None = None, transport: MemoryTransport | None = None
    ) -> tuple[InboundProtocol, MemoryTransport]:
        transport = transport or MemoryTransport()
        protocol = (factory or self.factory()).buildProtocol(transport.getPeer())
        assert isinstance(protocol, InboundProtocol)
        transport.connect(protocol)
        return protocol, transport
