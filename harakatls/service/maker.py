"""For twistd: makes the service of ``twistd harakatls``."""

import os
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
    try:
        server = Server(Settings.load(options["config"]), reactor, twistd_stream(twistd))
    except ConfigError as problem:
        raise SystemExit(f"harakatls: {problem}") from None
    except OSError as problem:
        raise SystemExit(f"harakatls: cannot write the log: {problem}") from None
    has_terminal = bool(twistd.get("nodaemon")) and _has_terminal()
    signal.signal(
        signal.SIGHUP,
        lambda *_: reactor.callFromThread(_hang_up, server, reactor, has_terminal),  # type: ignore[attr-defined]
    )
    return server


def _hang_up(server: Server, reactor: Any, had_terminal: bool) -> None:
    """Whose terminal was closed is to end; who is told without that is to read the files anew."""
    if had_terminal and not _has_terminal():
        log.info("SIGHUP: the terminal is gone")
        reactor.stop()
    else:
        server.reload()


def _has_terminal() -> bool:
    """Whether there is a terminal that could be closed on us."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
