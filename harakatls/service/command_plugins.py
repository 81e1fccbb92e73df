"""``harakatls plugins``: which plugin is asked when."""

import argparse

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogBeginner
from zope.interface import implementer

from harakatls.outbound.resolver import system_resolver
from harakatls.service.command_failure import warn
from harakatls.service.logs import message_of
from harakatls.service.settings import Settings
from harakatls.service.wiring import back_ends_for, load_all
from harakatls.spool.memory import MemorySpool
from harakatls.tls.server import ServerTLS


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its options."""
    text = "Print which plugin is asked at which hook, in order, and how long it may take."
    parser = commands.add_parser("plugins", help=text, description=text)
    parser.add_argument("--config", "-c", metavar="DIR", default="./config")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """The plugins are loaded as the server does it, so that what stops it shows here as well."""
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([Warnings()], redirectStandardIO=False)
    settings = Settings.load(options.config)
    server_tls = ServerTLS(settings.tls.inbound, settings.me)
    resolver = system_resolver(reactor)
    plugins, chain = load_all(
        settings,
        MemorySpool(),
        server_tls,
        resolver,
        back_ends_for(settings, resolver, reactor),
        reactor,
    )
    limits = {plugin.name: plugin.timeout for plugin in plugins}
    stages = chain.stages()
    width = max(len(name) for _, names in stages for name in names)
    for stage, names in stages:
        for name in names:
            seconds = limits.get(name, 0.0)
            limit = f"{seconds:g} s" if seconds else "no limit"
            print(f"{stage:<13}  {name:<{width}}  {limit}")
            stage = ""  # each is named once
    for warning in settings.config.warnings:
        warn(warning)


@implementer(ILogObserver)
class Warnings:
    """Tells what plugins warn of when they are loaded; what they fail of is told anyway."""

    def __call__(self, event: LogEvent) -> None:
        """Tracebacks are for the log of the server."""
        if event.get("log_level") in (LogLevel.warn, LogLevel.error):
            warn(message_of(event))
