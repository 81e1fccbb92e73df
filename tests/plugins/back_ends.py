"""Back ends in memory, for the plugins that hand mail on while the client waits."""

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import Site
from harakatls.outbound.back_ends import BackEnds
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.spool.memory import MemorySpool
from harakatls.testing.network import MemoryNetwork
from harakatls.testing.peers import BREAK_OFF, HANG_UP, ObligingPeer, ScriptedPeer
from harakatls.testing.values import FixedResolver
from harakatls.tls.settings import TLSSettings
from tests.plugins.support import ME, site_of

T = TypeVar("T")
FIRST, SECOND = "192.0.2.51", "192.0.2.52"


def gone() -> tuple[ScriptedPeer, ...]:
    """Back ends that are not there for mail, or go at some step."""
    return (
        ObligingPeer(connect=HANG_UP),
        ObligingPeer(connect="554 5.3.2 back1.example takes nothing from 192.0.2.25"),
        ObligingPeer(EHLO=BREAK_OFF),
        ObligingPeer(MAIL=HANG_UP),
        ObligingPeer(RCPT=BREAK_OFF),
        ObligingPeer(DATA=HANG_UP),
        ObligingPeer(end=HANG_UP),
    )


class _NoRoutes:
    async def route(self, domain: str, queued: object) -> None:
        return None


class BackEndCase(SynchronousTestCase):
    """
    back1.example and back2.example are the hosts that may answer.

    @cvar addresses: of further hosts, by name.
    """

    addresses: Mapping[str, list[str]] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000.0)
        self.network = MemoryNetwork(self.clock)
        hosts = {"back1.example": [FIRST], "back2.example": [SECOND], **self.addresses}
        resolver = FixedResolver({}, hosts)
        settings = OutboundSettings(pool_timeout=5.0)
        routing = Routing(_NoRoutes(), resolver, settings, ME, is_ours=lambda address: False)
        self.back_ends = BackEnds(
            self.network.connect, routing, settings, ME, self.clock, TLSSettings().plugins
        )

    def site(self, **files: str) -> Site:
        """@param files: by name without ``.ini``."""
        site = site_of(self, {f"{name}.ini": text for name, text in files.items()})
        self.spool = MemorySpool(self.clock)
        return evolve(site, clock=self.clock, back_ends=self.back_ends, spool=self.spool)

    def serve(self, host: str, *peers: ScriptedPeer) -> None:
        """One for each connection."""
        self.network.serve(host, *peers)

    def begin(self, asked: Coroutine[Any, Any, T]) -> "Deferred[T]":
        """As far as it goes without time passing."""
        running = Deferred.fromCoroutine(asked)
        self.network.flush()
        return running

    def ask(self, asked: Coroutine[Any, Any, T]) -> T:
        """What comes without time passing."""
        answer: T = self.successResultOf(self.begin(asked))
        return answer
