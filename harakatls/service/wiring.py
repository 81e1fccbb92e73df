"""What the server and ``harakatls plugins`` both put together: the site and its plugins."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool

from harakatls.hooks.chain import LoadedPlugin
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.interfaces import IResolver, IServerTLS, ISpool, Site
from harakatls.service.settings import Settings


def load_all(
    settings: Settings,
    spool: ISpool,
    tls: IServerTLS,
    resolver: IResolver,
    reactor: Any,
) -> tuple[LoadedPlugin, ...]:
    """
    The plugins that config/plugins lists, installed or of the operator's own.

    @param reactor: provides time and threads.
    @raise ConfigError: one is not known, or its configuration is wrong.
    """
    clock: IReactorTime = reactor
    site = Site(
        config=settings.config,
        me=settings.me,
        clock=clock,
        spool=spool,
        tls=tls,
        resolver=resolver,
        call_in_thread=thread_caller(reactor),
    )
    return load_plugins(site, settings.plugins, plugin_factories(settings.own_plugins))


def thread_caller(reactor: Any) -> Callable[..., Deferred[Any]]:
    def call_in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs)

    return call_in_thread
