"""Where failures of TLS are kept: which memories there are, and in which order they are asked."""

from pathlib import Path
from typing import Any

from attrs import frozen

from harakatls.interfaces import ITLSMemory
from harakatls.redis.link import RedisLink, redis_link
from harakatls.service.settings import Settings
from harakatls.tls.clients import FailingClients
from harakatls.tls.nogo import Direction
from harakatls.tls.nogo_file import NAME, FileTLSMemory, NoGoFile
from harakatls.tls.nogo_redis import RedisTLSMemory


@frozen
class NoGo:
    """
    The memories of both directions, if they are switched on.

    @ivar outbound: None where they are not: then nothing is asked, nothing is kept, and no
        connection to Redis is made.
    @ivar inbound: likewise.
    """

    outbound: ITLSMemory | None = None
    inbound: FailingClients | None = None
    _file: NoGoFile | None = None
    _link: RedisLink | None = None

    @classmethod
    def make(cls, settings: Settings, reactor: Any) -> "NoGo":
        """Nothing is opened or connected before it is needed."""
        nogo = settings.tls.nogo
        if not nogo.enabled:
            return cls()
        file = NoGoFile(file_of(settings.queue))
        link = None if nogo.redis is None else redis_link(nogo.redis, reactor)

        def memory(direction: Direction) -> ITLSMemory:
            beside_queue = FileTLSMemory(file, direction, reactor)
            if link is None:
                return beside_queue
            return RedisTLSMemory(link, direction, reactor, beside_queue)

        clients = FailingClients(memory(Direction.INBOUND), nogo.inbound_expiry, reactor)
        return cls(memory(Direction.OUTBOUND), clients, file, link)

    def close(self) -> None:
        """What is asked behind this is asked in vain."""
        if self._link is not None:
            self._link.close()
        if self._file is not None:
            self._file.close()


def file_of(queue: Path) -> Path:
    """The file in the queue directory."""
    return queue / NAME
