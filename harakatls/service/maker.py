"""For twistd: makes the service of ``twistd harakatls``."""

import signal
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger

from harakatls.config.errors import ConfigError
from harakatls.service.failure import tell_in_one_line
from harakatls.service.logs import twistd_stream
from harakatls.service.options import Options
from harakatls.service.reactor import install_lean_reactor
from harakatls.service.server import Server
from harakatls.service.settings import Settings

log = Logger()

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:
    """
    The server that is configured by the files in ``options["config"]``.

    @raise SystemExit: with one line for the operator, if a file is wrong.
    """
    install_lean_reactor()
    from twisted.internet import reactor

    tell_in_one_line()
    twistd: Any = options.parent or {}
    if not twistd.get("nodaemon"):
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(_hangup))  # type: ignore[attr-defined]
    try:
        return Server(Settings.load(options["config"]), reactor, twistd_stream(twistd))
    except ConfigError as problem:
        raise SystemExit(f"harakatls: {problem}") from None
    except OSError as problem:
        raise SystemExit(f"harakatls: cannot write the log: {problem}") from None


def _hangup() -> None:
    """A daemon has no terminal to lose: who sends this wants the files to be read anew."""
    log.warn("SIGHUP has no effect; after a change of the files start the server anew")
