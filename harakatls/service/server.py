"""The server: puts the parts together, starts them in order and stops them in order."""

import gc
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.application.service import IProcess, Service
from twisted.internet.defer import (
    Deferred,
    DeferredList,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from harakatls.config.errors import ConfigError
from harakatls.hooks.chain import HookChain
from harakatls.inbound.admission import Admission
from harakatls.inbound.factory import InboundFactory, patience
from harakatls.inbound.failed_logins import FailedLogins
from harakatls.inbound.port import Port
from harakatls.inbound.settings import ListenerSettings
from harakatls.interfaces import IResolver, ISpool
from harakatls.outbound.back_ends import BackEnds
from harakatls.outbound.connector import Connector
from harakatls.outbound.delivery import Delivery
from harakatls.outbound.dsn import Reporter
from harakatls.outbound.held_back import AskedFirst
from harakatls.outbound.reports import SuccessReports
from harakatls.outbound.resolver import system_resolver
from harakatls.outbound.routing import Routing
from harakatls.outbound.runner import QueueRunner
from harakatls.outbound.tcp import over_tcp
from harakatls.service.activation import given_sockets, notify, told_at_start
from harakatls.service.descriptors import raise_limit
from harakatls.service.failure import StartFailure
from harakatls.service.groups import GroupFiles
from harakatls.service.listeners import BoundSocket, bind_all, serve
from harakatls.service.logs import Stream, drop_below, log_to
from harakatls.service.nogo import NoGo
from harakatls.service.reload import TLSReload
from harakatls.service.settings import Settings, account
from harakatls.service.wiring import back_ends_for, listens_on, load_all, thread_caller
from harakatls.spool.errors import SpoolUnusable
from harakatls.spool.sqlite import open_spool
from harakatls.tls.client import ClientTLS
from harakatls.tls.responder import over_http
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from harakatls.tls.staples import Staples
from harakatls.tls.stapling import Stapler

log = Logger()

HURRY = 5.0  # seconds to write down what deliveries came to that are broken off
STAPLES = "ocsp"
"""The directory in the queue for OCSP responses, which is only there for a quick start."""


class Server(Service):
    """
    One server on one instance.

    Settings, keys and ports are taken while the process still has the rights it was started with;
    queue, Maildir and plugins once it has those it runs with, since the files they make must
    belong to that account.
    """

    name = "harakatls"

    def __init__(self, settings: Settings, reactor: Any, stream: Stream | None = None) -> None:
        """
        @param stream: where to log; None leaves that to twistd.
        @raise ConfigError: the account to run as cannot be taken on, or OpenSSL refuses an option.
        """
        self._settings = settings
        self._reactor = reactor
        self._stream = stream
        self._account = account(settings.inbound)
        self._groups = GroupFiles(thread_caller(reactor))
        self._nogo = NoGo.make(settings, reactor)
        self._staples = Staples(reactor)
        self._server_tls = ServerTLS(
            settings.tls.inbound, settings.me, self._staples.octets, self._nogo.inbound
        )
        self._client_tls = ClientTLS(settings.tls.outbound)
        self._reload = TLSReload(
            settings.config,
            settings.tls,
            settings.tls_stamps,
            self._server_tls,
            self._client_tls,
            reactor,
            thread_caller(reactor),
            self._tls_taken_on,
            self._tls_read,
        )
        self._bound: tuple[BoundSocket, ...] = ()
        self._unopened: tuple[BoundSocket, ...] = ()  # bound, since the right to do so goes
        self._connector: Connector | None = None
        self._back_ends: BackEnds | None = None
        self._factory_for: Callable[[ListenerSettings], InboundFactory] | None = None
        self._ports: list[IListeningPort] = []
        self._factories: list[InboundFactory] = []
        self._admission: Admission | None = None  # until it is known how many the system allows
        self._failed_logins = FailedLogins(reactor)
        self._spool: ISpool | None = None
        self._runner: QueueRunner | None = None
        self._delivered: Deferred[None] = succeed(None)  # when stopping: deliveries have ended
        self._stapler = Stapler(
            self._server_tls,
            self._staples,
            over_http(reactor).ask,
            settings.queue / STAPLES,
            reactor,
        )

    def setServiceParent(self, parent: Any) -> None:
        """Tell twistd's application how to log, and as whom to run once the ports are bound."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if not isinstance(parent, Componentized):
            return
        settings = self._settings.log
        if self._stream is not None:
            parent.setComponent(ILogObserver, log_to(self._stream, settings))  # type: ignore[no-untyped-call]
        drop_below(settings.level)  # also for syslog, which has a form of its own
        process: Any = IProcess(parent)
        process.uid, process.gid = self._account

    # -- starting ----------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Bind the ports; twistd lays down the rights to do so behind this."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        for problem in dict.fromkeys((*self._server_tls.problems, *self._client_tls.problems)):
            log.error("TLS: {problem}", problem=problem)
        inbound, closed = self._settings.inbound, self._without_certificate()
        descriptors = raise_limit(inbound.peers.connections)
        self._admission = Admission(inbound.peers, self._reactor, descriptors)
        for listener in closed:
            log.error("{address} is not opened: TLS needs a certificate", address=str(listener))
        try:
            given = given_sockets(told_at_start(), os.getpid())
            bound = bind_all(inbound.listeners, inbound.listens_by_default, closed, given)
        except StartFailure as problem:
            self._refuse(problem)
        self._bound = tuple(one for one in bound if one.settings not in closed)
        self._unopened = tuple(one for one in bound if one.settings in closed)

    def _without_certificate(self) -> tuple[ListenerSettings, ...]:
        if self._server_tls.ready():
            return ()
        listeners = self._settings.inbound.listeners
        return tuple(listener for listener in listeners if listener.implicit_tls)

    def startService(self) -> None:
        """Begin to deliver, and to take mail."""
        super().startService()  # type: ignore[no-untyped-call]
        try:
            self._start()
        except (ConfigError, SpoolUnusable) as problem:
            self._refuse(StartFailure(str(problem)))
        for warning in self._settings.config.warnings:
            log.warn("{warning}", warning=warning)
        # What has been made by now stays; the garbage collector need not look at it again.
        gc.collect()
        gc.freeze()
        notify("READY=1")

    def _refuse(self, problem: StartFailure) -> NoReturn:
        log.critical("not started: {problem}", problem=str(problem))
        if self._spool is not None:
            # Its thread would keep the process from ending; the reactor will not run any more.
            Deferred.fromCoroutine(self._spool.close())
        raise problem from None

    def _start(self) -> None:
        settings = self._settings
        resolver = system_resolver(self._reactor)
        self._spool = spool = open_spool(
            settings.queue,
            self._reactor,
            self._reactor.callFromThread,
            thread_caller(self._reactor),
        )
        self._back_ends = back_ends_for(settings, resolver, self._reactor)
        _, chain = load_all(
            settings, spool, self._server_tls, resolver, self._back_ends, self._reactor
        )
        reporter = Reporter(settings.me, settings.outbound.templates)
        chain.success_reports = SuccessReports(spool, chain, reporter, self._reactor)
        self._runner = self._runner_for(chain, spool, resolver)
        self._factory_for = lambda listener: self._factory(listener, chain, spool)
        self._stapler.startService()  # before the ports: the first client is to see what is kept
        self._ports = serve(self._bound, self._reactor, self._factory_for)
        self._runner.startService()
        self._reload.start()
        self._groups.make(settings.tls)

    def _factory(
        self, listener: ListenerSettings, chain: HookChain, spool: ISpool
    ) -> InboundFactory:
        settings = self._settings
        assert self._admission is not None, "the ports were bound before"
        port = Port(
            listener,
            settings.inbound,
            chain,
            spool,
            self._server_tls,
            settings.me,
            self._reactor,
            self._admission,
            self._failed_logins,
        )
        factory = InboundFactory(port)
        self._factories.append(factory)
        return factory

    def _runner_for(self, chain: HookChain, spool: ISpool, resolver: IResolver) -> QueueRunner:
        settings = self._settings
        outbound, me, clock = settings.outbound, settings.me, self._reactor
        assert self._back_ends is not None, "the plugins got them before"
        self._connector = Connector(
            over_tcp(self._reactor),
            outbound,
            me,
            clock,
            self._client_tls,
            settings.tls.outbound,
            settings.tls.nogo,
            self._nogo.outbound,
            logins=self._back_ends.logins,
        )
        routing = Routing(chain, resolver, outbound, me, is_listener=listens_on(settings))
        delivery = Delivery(
            routing, self._connector, spool, outbound, me, clock, self._back_ends.connector
        )
        attempts = AskedFirst(chain, delivery, clock)
        grace = patience(settings.inbound.shutdown_timeout)
        return QueueRunner(spool, chain, attempts, outbound, me, clock, grace)

    # -- reloading ---------------------------------------------------------------------------

    def reload(self) -> None:
        """Take on new certificates and TLS settings, and try delayed mail, at once (SIGHUP)."""
        if self.running:
            self._reload.reload()
            Deferred.fromCoroutine(self._flush())

    async def _flush(self) -> None:
        if self._spool is None:
            return
        try:
            count = await self._spool.flush()
        except Exception:
            log.failure("delayed mail is tried when its time comes")
        else:
            log.info("{count} messages that were delayed are tried now", count=count)

    def _tls_taken_on(self, settings: TLSSettings) -> None:
        if self._connector is not None:
            self._connector.take_on(settings.outbound)
        if self._back_ends is not None:
            self._back_ends.take_on(settings.plugins)

    def _tls_read(self, settings: TLSSettings) -> None:
        self._groups.make(settings)
        self._open_what_was_not()

    def _open_what_was_not(self) -> None:
        """The ports for which there was no certificate; what fails is tried again next time."""
        if not (self.running and self._server_tls.ready() and self._factory_for):
            return
        unopened, self._unopened = self._unopened, ()
        for one in unopened:
            try:
                one.open()
                self._ports += serve([one], self._reactor, self._factory_for)
            except (StartFailure, OSError) as problem:
                self._unopened += (one,)
                log.error("a certificate has come, but {problem}", problem=str(problem))

    # -- stopping ----------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """
        No new connections; what is under way may finish; then the queue is closed.

        Who tells the server a second time to stop does not want to wait.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # Before anybody hears that we stop: who does may say it once more, which the reactor, being
        # stopped already, would take for a mistake.
        told_again: Deferred[None] = Deferred()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._reactor.callFromThread(_fire, told_again))
        log.info("stopping")
        notify("STOPPING=1")
        ended = Deferred.fromCoroutine(self._end())
        _, first = await DeferredList([ended, told_again], fireOnOneCallback=True)
        if first == 1:
            log.warn("told to stop again; what is under way is broken off")
            await self._break_off()
        if self._back_ends is not None:
            self._back_ends.close()
        await self._without_fail(self._nogo.close)
        if self._spool is not None:
            await self._without_fail(self._spool.close)

    async def _end(self) -> None:
        """Let all end that is under way."""
        self._reload.stop()
        if self._runner is not None:
            # Before anything is waited for: whoever says stop once more breaks this off.
            self._delivered = Deferred.fromCoroutine(self._without_fail(self._runner.stopService))
        await self._without_fail(self._stapler.stopService)
        for one in self._unopened:
            one.socket.close()
        for port in self._ports:
            await self._without_fail(port.stopListening)
        seconds = self._settings.inbound.shutdown_timeout
        ending = [
            Deferred.fromCoroutine(self._without_fail(factory.drain, seconds))
            for factory in self._factories
        ]
        await gatherResults([*ending, self._delivered])

    async def _break_off(self) -> None:
        """Whoever has got a message by now must not get it again at the next start."""
        if self._runner is None:
            return
        self._runner.hurry()
        late: Deferred[None] = Deferred()
        timer = self._reactor.callLater(HURRY, _fire, late)
        await DeferredList([self._delivered, late], fireOnOneCallback=True)
        if timer.active():
            timer.cancel()

    async def _without_fail(self, stop: Callable[..., Any], *arguments: Any) -> None:
        """One part that does not stop keeps no other from stopping."""
        try:
            await maybeDeferred(stop, *arguments)
        except Exception:
            log.failure("while stopping")


def _fire(waited_for: Deferred[None]) -> None:
    if not waited_for.called:
        waited_for.callback(None)
