"""However connections end, nothing of them is left: no count, no timer, no memory of a message."""

from random import Random
from typing import Any

from attrs import evolve
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.hooks.chain import HookChain
from harakatls.inbound.admission import Admission, TurnedAway
from harakatls.inbound.factory import InboundFactory
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.port import Port
from harakatls.inbound.settings import ListenerSettings
from harakatls.plugins.spool import DurableQueue
from harakatls.plugins.tls import StartTLSOffer
from harakatls.plugins.xclient import XClientOffer
from harakatls.spool.memory import MemorySpool
from harakatls.verdict import ACCEPT, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything, loaded
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, QUIT, RCPT, SETTINGS
from tests.inbound.transports import CLOSED, MemoryTransport, RecordingTLS, TLSClient, lost
from tests.inbound.users import Table

SEEDS = 300
SHUTDOWN = 30  # seconds
SAID = {
    EHLO: 8,
    MAIL: 8,
    RCPT: 8,
    DATA: 5,
    MESSAGE: 4,
    END: 4,
    b"BDAT 5\r\nabc\r\n": 4,
    b"BDAT 3 LAST\r\nx\r\n": 4,
    b"BDAT 0\r\n": 2,
    b"BDAT 99999999\r\n": 1,
    b"RSET\r\n": 3,
    b"NOOP\r\n": 1,
    b"AUTH PLAIN\r\n": 1,
    b"AUTH PLAIN AGpvZQBndWVzcw==\r\n": 1,
    b"*\r\n": 1,
    b"XCLIENT ADDR=192.0.2.77\r\n": 2,
    b"STARTTLS\r\n": 2,
    b"NONSENSE\r\n": 1,
    b"x" * 700: 1,
    QUIT: 1,
}
HEADERS = (b"PROXY TCP4 192.0.2.33 198.51.100.1 5 25\r\n", b"PROXY UNKNOWN\r\n", b"PROXY TC")
VERDICTS = {"connect", "hello", "mail", "rcpt", "data", "message", "queue", "noop"}


class Moody(Everything):
    """Answers at once or later, yes or no."""

    def __init__(self, random: Random) -> None:
        super().__init__(rcpt=ACCEPT)
        self.random = random
        self.waiting: list[Deferred[None]] = []

    async def _answer(self, stage: str, usual: Any, *arguments: Any) -> Any:
        if self.random.random() < 0.08:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        if stage in VERDICTS and self.random.random() < 0.03:
            return self.random.choice((Reject(), TempFail(), Disconnect()))
        return await super()._answer(stage, usual, *arguments)


class Peer:
    """One of several at the same port."""

    def __init__(self, factory: InboundFactory) -> None:
        self.transport = MemoryTransport()
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.transport.connect(self.protocol)
        self.tls: TLSClient | None = None

    def say(self, octets: bytes) -> None:
        if self.tls is None:
            self.protocol.dataReceived(octets)
            return
        try:
            self.tls.say(octets)
        except SSL.Error:
            pass  # the server has closed

    def shake(self) -> None:
        if self.tls is None and b"220 2.0.0" in b"".join(self.transport.written[-1:]):
            self.tls = TLSClient(self.transport)
            try:
                self.tls.shake()
            except (AssertionError, SSL.Error):
                pass


class AnyEndTests(SynchronousTestCase):
    def begin(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.spool = MemorySpool(self.clock)
        self.plugin = Moody(random)
        tls: Any = RecordingTLS()
        plugins = [StartTLSOffer(tls), XClientOffer(HostList.parse(["192.0.2.0/24"]))]
        chain = HookChain(
            [loaded(plugin) for plugin in (*plugins, self.plugin, Table("PLAIN"))],
            self.clock,
            DurableQueue(),
        )
        settings = evolve(
            SETTINGS,
            max_bytes=2000,
            proxies=HostList.parse(random.choice(([], ["192.0.2.10"]))),
            peers=PeerLimits(connections_per_address=random.choice((1, 2, 50)), connections=3),
        )
        listener = ListenerSettings("198.51.100.1", 25, random.random() < 0.2)
        self.admission = Admission(settings.peers, self.clock)
        self.factory = InboundFactory(
            Port(
                listener,
                settings,
                chain,
                self.spool,
                tls,
                "mx.example",
                self.clock,
                self.admission,
            )
        )
        self.peers: list[Peer] = []

    def step(self) -> None:
        random = self.random
        if (len(self.peers) < 4 and random.random() < 0.3) or not self.peers:
            peer = Peer(self.factory)
            self.peers.append(peer)
            if self.factory.port.settings.proxies and not peer.transport.closed:
                peer.say(random.choice(HEADERS))
        peer = random.choice(self.peers)
        chance = random.random()
        if chance < 0.6 and peer.transport.closed in ("", "half"):
            said = random.choices(list(SAID), list(SAID.values()), k=random.randint(1, 6))
            peer.say(b"".join(said))
        elif chance < 0.7 and not peer.transport.closed:
            peer.shake()
        elif chance < 0.8:
            self.clock.pump([random.choice((0, 0.1, 1, 31, 301))] * 2)
        elif chance < 0.85 and self.plugin.waiting:
            self.answered(self.plugin.waiting.pop())
        elif chance < 0.9 and not peer.transport.closed:
            peer.protocol.readConnectionLost()
        elif chance < 0.95:
            self.leave(peer)
        self.close()

    def answered(self, waited_for: Deferred[None]) -> None:
        if not waited_for.called:
            waited_for.callback(None)

    def leave(self, peer: Peer) -> None:
        self.peers.remove(peer)
        peer.protocol.connectionLost(lost(CLOSED))

    def close(self) -> None:
        for peer in tuple(self.peers):
            if peer.transport.closed in ("lose", "abort"):
                self.leave(peer)

    def drain(self) -> None:
        """All is over in time, although some go on talking."""
        ended: list[None] = []
        Deferred.fromCoroutine(self.factory.drain(SHUTDOWN)).addCallback(ended.append)
        for _ in range(SHUTDOWN):
            for peer in self.peers:
                if not peer.transport.closed:
                    peer.say(self.random.choice(list(SAID)))
            self.clock.advance(1)
            self.close()
        self.assertEqual((ended, self.peers), ([None], []))

    def test_nothing_is_left(self) -> None:
        """Commands, chunks, TLS, proxies, slow plugins, and peers that go in between."""
        for seed in range(SEEDS):
            self.begin(seed)
            for _ in range(self.random.randint(5, 60)):
                self.step()
            if self.random.random() < 0.5:
                self.drain()
            for peer in tuple(self.peers):
                self.leave(peer)
            for waited_for in self.plugin.waiting:
                self.answered(waited_for)
            self.clock.advance(0)
            timers = [call for call in self.clock.getDelayedCalls() if not _is_of_log(call)]
            counts = self.admission._total, self.admission._by_network
            left = timers, counts, self.factory.connections, self.spool.held
            self.assertEqual(left, ([], (0, {}), set(), 0), f"seed {seed}")
            self.assertEqual(self.flushLoggedErrors(), [], f"seed {seed}")


def _is_of_log(call: Any) -> bool:
    return isinstance(getattr(call.func, "__self__", None), TurnedAway)
