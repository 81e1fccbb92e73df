"""What the server and ``harakatls plugins`` both put together: the plugins and their chain."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from harakatls.hooks.chain import HookChain
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.hooks.stages import LAST_QUEUE, LoadedPlugin
from harakatls.interfaces import IBackEnds, IQueueHook, IResolver, IServerTLS, ISpool, Site
from harakatls.outbound.back_ends import BackEnds
from harakatls.outbound.routing import Routing
from harakatls.outbound.sending import Mailer
from harakatls.outbound.tcp import over_tcp
from harakatls.queued import QueuedMessage
from harakatls.service.settings import Settings

_ALL = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on


def back_ends_for(settings: Settings, resolver: IResolver, reactor: Any) -> BackEnds:
    """@param reactor: provides TCP and time."""
    outbound, me = settings.outbound, settings.me
    routing = Routing(_NoRoutes(), resolver, outbound, me, is_listener=listens_on(settings))
    return BackEnds(over_tcp(reactor), routing, outbound, me, reactor, settings.tls.plugins)


class _NoRoutes:
    """The plugins know where their back ends are."""

    async def route(self, domain: str, queued: QueuedMessage) -> None:
        """Nobody is asked."""


def listens_on(settings: Settings) -> Callable[[str, int], bool]:
    """
    @return: do we listen on an IP address, one of this machine or that under which the world sees
        it, and port?
    """
    listeners, public = settings.inbound.listeners, settings.outbound.public_ip

    def listens(address: str, port: int) -> bool:
        return any(
            listener.port == port and (listener.host in (address, *_ALL) or address in public)
            for listener in listeners
        )

    return listens


def load_all(
    settings: Settings,
    spool: ISpool,
    tls: IServerTLS,
    resolver: IResolver,
    back_ends: IBackEnds,
    reactor: Any,
) -> tuple[tuple[LoadedPlugin, ...], HookChain]:
    """
    Load what config/plugins lists, installed or of the operator's own.

    @param reactor: provides time and threads.
    @return: the plugins, and the chain that asks them and the durable queue behind all.
    @raise ConfigError: a plugin is not known, or its configuration is wrong.
    """
    mailer = Mailer(spool)
    site = Site(
        config=settings.config,
        me=settings.me,
        clock=reactor,
        spool=spool,
        tls=tls,
        resolver=resolver,
        call_in_thread=thread_caller(reactor),
        back_ends=back_ends,
        send_email=mailer.send_email,
    )
    factories = plugin_factories(settings.own_plugins)
    plugins = load_plugins(site, settings.plugins, factories)
    (last,) = load_plugins(site, (LAST_QUEUE,), factories)
    chain = HookChain(plugins, reactor, IQueueHook(last.plugin))
    mailer.takers = chain
    return plugins, chain


def thread_caller(reactor: Any) -> Callable[..., Deferred[Any]]:
    """What runs a function in one of the reactor's threads."""

    def call_in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs)

    return call_in_thread
