"""Headers of proxies, and connections from one."""

import struct

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address

from harakatls.config.hosts import HostList
from harakatls.connection import Connection, Endpoint
from harakatls.inbound.factory import InboundFactory
from harakatls.inbound.proxy_header import (
    SIGNATURE,
)
from tests.inbound.protocol_case import FactoryTestCase
from tests.inbound.support import SETTINGS
from tests.inbound.transports import MemoryTransport

FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 40000, 25)


def block(command: int, kind: int, rest: bytes, length: int | None = None) -> bytes:
    """A header of version 2."""
    fixed = struct.pack("!BBH", command, kind, len(rest) if length is None else length)
    return SIGNATURE + fixed + rest


PROXY = IPv4Address("TCP", "10.0.0.5", 50000)
STRANGER = IPv4Address("TCP", "203.0.113.9", 50000)
OURS = IPv4Address("TCP", "10.0.0.1", 2525)
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 25\r\n"
BLOCK = block(0x21, 0x11, FOUR)
LOCAL = block(0x20, 0x00, b"")
CLIENT, TOLD = Endpoint("192.0.2.1", 40000), Endpoint("198.51.100.7", 25)


class ProxyTestCase(FactoryTestCase):
    settings = evolve(SETTINGS, proxies=HostList.parse(["10.0.0.5", "fd00::/64"]))
    address = "10.0.0.1", 2525

    def connect(
        self,
        peer: IPv4Address | IPv6Address = PROXY,
        implicit_tls: bool = False,
        factory: InboundFactory | None = None,
    ) -> MemoryTransport:
        transport = MemoryTransport(peer, OURS)
        factory = factory or self.factory(implicit_tls)
        transport.connect(factory.buildProtocol(peer))
        self.last = factory
        return transport

    def connection(self) -> Connection:
        """What the last connect hook was told."""
        found: Connection = self.plugin.told("connect")[-1][0]
        return found
