"""What the server and ``harakatls plugins`` both put together: the plugins and their chain."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from harakatls.hooks.chain import LAST_QUEUE, HookChain, LoadedPlugin
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.interfaces import IQueueHook, IResolver, IServerTLS, ISpool, Site
from harakatls.service.settings import Settings


def load_all(
    settings: Settings, spool: ISpool, tls: IServerTLS, resolver: IResolver, reactor: Any
) -> tuple[tuple[LoadedPlugin, ...], HookChain]:
    """
    Load what config/plugins lists, installed or of the operator's own.

    @param reactor: provides time and threads.
    @return: the plugins, and the chain that asks them and the durable queue behind all.
    @raise ConfigError: a plugin is not known, or its configuration is wrong.
    """
    site = Site(
        config=settings.config,
        me=settings.me,
        clock=reactor,
        spool=spool,
        tls=tls,
        resolver=resolver,
        call_in_thread=thread_caller(reactor),
    )
    factories = plugin_factories(settings.own_plugins)
    plugins = load_plugins(site, settings.plugins, factories)
    (last,) = load_plugins(site, (LAST_QUEUE,), factories)
    return plugins, HookChain(plugins, reactor, IQueueHook(last.plugin))


def thread_caller(reactor: Any) -> Callable[..., Deferred[Any]]:
    """What runs a function in one of the reactor's threads."""

    def call_in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args, **kwargs)

    return call_in_thread
