"""What the tests of inbound share: a conversation without a transport, and peers in memory."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from harakatls.connection import Connection, Endpoint, TLSSummary
from harakatls.hooks.chain import HookChain
from harakatls.inbound.channel import HandshakeFailed
from harakatls.inbound.conversation import Conversation
from harakatls.inbound.failed_logins import FailedLogins
from harakatls.inbound.limits import PeerLimits
from harakatls.inbound.offered import session_limits
from harakatls.inbound.settings import InboundSettings
from harakatls.interfaces import IQueueHook, IServerTLS, ISpool
from harakatls.plugins.spool import DurableQueue
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.spool.memory import MemorySpool
from tests.hooks.plugins import loaded

ME = "mx.example"
ID = "4C1F2E3D-0000-4000-8000-000000000001"
SETTINGS = InboundSettings(me=ME)
PATIENT = InboundSettings(me=ME, peers=PeerLimits(commands_without_message=0))
SUMMARY = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "mx.example", group="X25519")

EHLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<alice@sender.example>\r\n"
RCPT = b"RCPT TO:<bob@a.example>\r\n"
DATA = b"DATA\r\n"
MESSAGE = b"Subject: hello\r\n\r\nHello Bob.\r\n"
END = b".\r\n"
QUIT = b"QUIT\r\n"


class RecordingChannel:
    """
    A channel that ends in lists.

    @ivar written: one entry for each write.
    @ivar closed: "close", "linger" or "abort"; None while it is open.
    @ivar refusal: what a peer hears that speaks for another host.
    @ivar handshake: what `secure` waits for.
    @ivar exporter: the channel binding.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.paused = False
        self.closed: str | None = None
        self.handshake: Deferred[TLSSummary] | None = None
        self.resting: Deferred[None] | None = None
        self.refusal: Reply | None = None
        self.log: list[str] = []
        self.exporter: bytes | None = None

    def write(self, octets: bytes) -> None:
        self.written.append(octets)
        self.log.append("write")

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def rest(self) -> Deferred[None]:
        self.resting = Deferred()
        return self.resting

    def now_from(self, host: str) -> Reply | None:
        self.log.append(f"now from {host}")
        return self.refusal

    def secure(self, connection: Connection) -> Deferred[TLSSummary]:
        self.log.append("secure")
        self.handshake = Deferred()
        return self.handshake

    def binding(self) -> bytes | None:
        return self.exporter

    def close(self, linger: bool, last: bytes = b"") -> None:
        if last:
            self.write(last)
        self.closed = self.closed or ("linger" if linger else "close")

    def abort(self) -> None:
        self.closed = "abort"


class RefusingTLS:
    """An `IServerTLS` for conversations over a channel that does no TLS."""

    def __init__(self, ready: bool = True) -> None:
        self.is_ready = ready
        self.is_required = False
        self.failures: list[str] = []
        self.telling: Deferred[None] | None = None

    def ready(self) -> bool:
        return self.is_ready

    async def offers(self, connection: Connection) -> bool:
        return True

    def requires(self, connection: Connection) -> bool:
        return self.is_required

    async def handshake_failed(self, connection: Connection, reason: str) -> None:
        self.failures.append(reason)
        if self.telling is not None:
            await self.telling


class Talk:
    """One conversation, from a peer at 192.0.2.10 to our port 25, unless said otherwise."""

    def __init__(
        self,
        *plugins: object,
        settings: InboundSettings = SETTINGS,
        spool: ISpool | None = None,
        last_queue: IQueueHook | None = None,
        tls: Any = None,
        implicit_tls: bool = False,
        port: int = 25,
        begin: bool = True,
        timeouts: Sequence[float] = (),
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.clock.advance(1_700_000_000)
        self.spool = spool or MemorySpool(self.clock)
        self.channel = RecordingChannel()
        named = [
            evolve(loaded(plugin, f"plugin{n}"), timeout=(*timeouts, *([30.0] * len(plugins)))[n])
            for n, plugin in enumerate(plugins)
        ]
        self.chain = HookChain(named, self.clock, last_queue or DurableQueue())
        connection = Connection(
            ID, Endpoint("192.0.2.10", 49152), Endpoint("198.51.100.1", port), implicit_tls
        )
        server_tls: IServerTLS | None = tls
        self.conversation = Conversation(
            ServerSession(session_limits(settings), implicit_tls),
            self.chain,
            connection,
            settings,
            self.spool,
            server_tls,
            settings.me,
            self.clock,
            self.channel,
            FailedLogins(self.clock),
        )
        self.over: list[None] = []
        self.conversation.ended.addCallback(self.over.append)
        if begin:
            self.conversation.begin()

    def heard(self) -> str:
        """What was written since the last call."""
        octets = b"".join(self.channel.written)
        self.channel.written.clear()
        return octets.decode()

    def say(self, *octets: bytes) -> str:
        """All at once. @return: the answer, as far as it is there."""
        self.heard()
        self.conversation.received(b"".join(octets))
        return self.heard()

    def codes(self, *octets: bytes) -> list[str]:
        """The codes of the answers to all that."""
        return [line[:3] for line in self.say(*octets).splitlines() if line[3:4] == " "]

    def until_data(self, *rcpts: bytes) -> None:
        """EHLO, MAIL, RCPT and DATA, all of which are welcome."""
        rcpts = rcpts or (RCPT,)
        codes = self.codes(EHLO, MAIL, *rcpts, DATA)
        assert codes == ["250"] * (2 + len(rcpts)) + ["354"], codes

    def secured(self) -> None:
        """The handshake succeeds."""
        assert self.channel.handshake is not None
        self.channel.handshake.callback(SUMMARY)

    def not_secured(self, reason: str) -> None:
        """The handshake fails."""
        assert self.channel.handshake is not None
        self.channel.handshake.errback(HandshakeFailed(reason))


def queued(spool: ISpool) -> list[tuple[str, list[str], bytes]]:
    """What is in a `MemorySpool`: (reverse-path, recipients, octets) of each message."""
    found = []

    async def collect() -> None:
        for message in await spool.claim(float("inf"), 1000):
            octets = await spool.open_body(message).read(1 << 30)
            envelope = message.envelope
            recipients = [str(recipient.address) for recipient in message.pending]
            found.append((str(envelope.reverse_path or ""), recipients, octets))

    Deferred.fromCoroutine(collect())
    return found
