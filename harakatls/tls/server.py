"""TLS with those who connect to us: which certificate they see, and what is asked of them."""

import time
from collections.abc import Callable

from cryptography.x509 import Certificate
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from harakatls.connection import Connection, TLSSummary
from harakatls.interfaces import HasHandle, IServerTLS
from harakatls.tls.accepted import (
    ConnectionCreator,
    ServerConnection,
    StapleOf,
    sessions_of,
    sessions_of_nobody,
)
from harakatls.tls.certificates import KeyPair, chain_of
from harakatls.tls.clients import FailingClients
from harakatls.tls.contexts import trial_context
from harakatls.tls.handshake import connection_of, summarize
from harakatls.tls.hello import ClientHello, read_client_hello
from harakatls.tls.layer import TLSBroken
from harakatls.tls.policy import (
    ClientCertificate,
    client_certificate,
    moment,
    offers_starttls,
    requires_tls,
)
from harakatls.tls.settings import InboundTLS
from harakatls.tls.snapshot import Snapshot
from harakatls.tls.staples import Certified
from harakatls.tls.trial import staple_seen

log = Logger()

_ANY_LABEL = "staple-trial"  # for the * of a certificate's name
_SUBMISSION = 587  # RFC 6409


@implementer(IServerTLS)
class ServerTLS:
    """
    The TLS side of all listeners.

    All that depends on the configuration is in one snapshot, which L{replace} exchanges as a whole;
    a connection keeps the one under which it began.
    """

    def __init__(
        self,
        settings: InboundTLS,
        me: str,
        staple_of: StapleOf = lambda _: b"",
        failing: FailingClients | None = None,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        """
        @param me: our host name.
        @param failing: with whom TLS fails; None not to ask, and to remember nothing.
        @param seconds: the time since the epoch.
        @raise ConfigError: OpenSSL refuses a value of tls.ini.
        """
        self._me = me
        self._failing = failing
        self._staple_of = staple_of
        self._seconds = seconds
        self._changes: list[Callable[[], None]] = []
        self._snapshot = Snapshot.make(settings, me, staple_of)

    def replace(self, settings: InboundTLS) -> None:
        """
        New connections go by *settings* from now on.

        @raise ConfigError: OpenSSL refuses a value of tls.ini; nothing has changed.
        """
        self.adopt(self.prepare(settings))

    def prepare(self, settings: InboundTLS) -> Snapshot:
        """
        All that *settings* come to, ready for use; nothing has changed yet. It may be done in
        another thread.

        @raise ConfigError: OpenSSL refuses a value of tls.ini.
        """
        return Snapshot.make(settings, self._me, self._staple_of)

    def adopt(self, snapshot: Snapshot) -> None:
        """New connections go by *snapshot* from now on."""
        self._snapshot = snapshot
        for call in self._changes:
            call()

    @property
    def snapshot(self) -> Snapshot:
        """What new connections go by."""
        return self._snapshot

    def on_change(self, call: Callable[[], None]) -> None:
        """Call it whenever L{adopt} has brought other certificates."""
        self._changes.append(call)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with keys, certificates and trust anchors: a line for each, for the log."""
        return self._snapshot.problems

    def ready(self) -> bool:
        return bool(self._snapshot.store.default)

    async def offers(self, connection: Connection) -> bool:
        return self._may_offer(connection) and not await self._given_up(connection)

    def _may_offer(self, connection: Connection) -> bool:
        return (
            self.ready()
            and not connection.implicit_tls
            and connection.secured is None
            and offers_starttls(
                connection.peer.host, connection.local.port, self._snapshot.settings
            )
        )

    def requires(self, connection: Connection) -> bool:
        return requires_tls(connection.peer.host, connection.local.port, self._snapshot.settings)

    def connection_creator(
        self, connection: Connection, client_hello: bytes
    ) -> IOpenSSLServerConnectionCreator:
        """@raise RuntimeError: there is no certificate; L{ready} says so."""
        snapshot = self._snapshot
        if not snapshot.store.default:
            raise RuntimeError("there is no certificate to show")
        hello = read_client_hello(client_hello)
        port = connection.local.port
        if isinstance(hello, ClientHello):
            name, sessions = hello.server_name, sessions_of(hello.server_name, port)
        else:  # OpenSSL may know better, but learns the name too late to choose sessions by it
            name, sessions = None, sessions_of_nobody()
        demand = snapshot.demand(name, port)
        return ConnectionCreator(snapshot, name, demand, sessions, connection.peer.host)

    def summary(self, transport: HasHandle) -> TLSSummary:
        connection = connection_of(transport)
        assert isinstance(connection, ServerConnection)
        if self._failing is not None:
            self._failing.succeeded(connection.peer)
        judgement = connection.judgement(self._seconds())
        if connection.demand is ClientCertificate.REQUIRED and not judgement.verified:
            # OpenSSL has refused all others that begin a session, but it asks nobody who resumes.
            raise TLSBroken(f"the client's {judgement.problem or 'certificate is missing'}")
        return summarize(connection, connection.server_name, judgement)

    # -- for OCSP stapling -----------------------------------------------------------------------

    @property
    def staples_wanted(self) -> bool:
        settings = self._snapshot.settings
        return any(rules.staples for rules in (settings, *settings.named.values()))

    def certified(self) -> tuple[Certified, ...]:
        """The certificates that are shown, each once."""
        snapshot = self._snapshot
        known = snapshot.anchors  # a root need not be in the file of the certificate
        pairs: dict[Certificate, KeyPair] = {}
        wanted: set[Certificate] = set()
        for name in snapshot.names():
            for pair in snapshot.store.for_name(name):
                pairs[pair.chain[0]] = pair
                if snapshot.settings.for_name(name).staples:
                    wanted.add(pair.chain[0])
        chains = {leaf: chain_of(leaf, (*pair.chain, *known)) for leaf, pair in pairs.items()}
        return tuple(
            Certified(pair, chains[leaf][1] if chains[leaf][1:] else None, leaf in wanted)
            for leaf, pair in pairs.items()
        )

    def staple_shown(self, pair: KeyPair) -> bytes:
        """
        What a client that asks for a staple gets with this pair, by a handshake with ourselves.

        @param pair: one of L{certified}.
        @raise TrialFailed: it cannot be seen.
        """
        snapshot = self._snapshot
        names = [n for n in snapshot.names() if pair in snapshot.store.for_name(n)]
        name = next((n for n in names if snapshot.settings.for_name(n).staples), names[0])
        asked = None if name is None else name.replace("*", _ANY_LABEL)
        client = trial_context(snapshot.settings.for_name(name).parameters, pair.kind)
        demand = snapshot.demand(name, 0)
        server = ServerConnection(snapshot, asked, demand, sessions_of_nobody())
        return staple_seen(server, pair.chain[0], client, asked)

    async def handshake_failed(self, connection: Connection, reason: str) -> None:
        # At this level, since the line of the connection says it as well.
        log.debug(
            "TLS with {peer} failed: {reason}",
            connection_id=connection.id,
            peer=str(connection.peer),
            reason=reason,
        )
        if self._failing is not None and self._may_do_without(connection):
            await self._failing.failed(connection.peer.host)

    async def _given_up(self, connection: Connection) -> bool:
        """TLS has failed so often that STARTTLS is not offered."""
        if self._failing is None or not self._may_do_without(connection):
            return False
        failed_at = await self._failing.failed_at(connection.peer.host)
        if failed_at is None:
            return False
        log.info(
            "STARTTLS is not offered to {peer}: TLS failed with it, last at {when}",
            connection_id=connection.id,
            peer=str(connection.peer),
            when=moment(failed_at),
        )
        return True

    def _may_do_without(self, connection: Connection) -> bool:
        """
        The memory of failures is about this port.

        Not where passwords are sent, where all of the port is TLS, and where the client has to use
        TLS or to show a certificate: there, what fails is to stay outside.
        """
        port = connection.local.port
        return (
            not connection.implicit_tls
            and port != _SUBMISSION
            and not self.requires(connection)
            and not self._demands_certificate(port)
        )

    def _demands_certificate(self, port: int) -> bool:
        """Of clients that ask for any name: that of one that failed is not known."""
        settings = self._snapshot.settings
        return any(
            client_certificate(port, rules) is ClientCertificate.REQUIRED
            for rules in (settings, *settings.named.values())
        )
