"""Tests of the ports: real sockets, but only ones that the system chooses."""

import socket
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound.settings import ListenerSettings
from harakatls.service.failure import StartFailure
from harakatls.service.listeners import BoundSocket, bind_all


class BindTests(SynchronousTestCase):
    def bind(self, *listeners: ListenerSettings) -> tuple[BoundSocket, ...]:
        bound = bind_all(listeners)
        for one in bound:
            self.addCleanup(one.socket.close)
        return bound

    def port(self, bound: BoundSocket) -> int:
        port: int = bound.socket.getsockname()[1]
        return port

    def test_connections_wait(self) -> None:
        """From the moment of binding no client is refused: it waits until it is served."""
        (bound,) = self.bind(ListenerSettings("127.0.0.1", 0))
        peer = socket.create_connection(("127.0.0.1", self.port(bound)), timeout=10)
        peer.close()

    def test_named(self) -> None:
        """The log tells the port that the system chose."""
        (bound,) = self.bind(ListenerSettings("127.0.0.1", 0))
        self.assertEqual(str(bound), f"127.0.0.1:{self.port(bound)}")

    def test_in_use(self) -> None:
        """A port that is taken is named, with its setting; the others are free again."""
        taken, other = self.bind(ListenerSettings("127.0.0.1", 0), ListenerSettings("127.0.0.1", 0))
        port, free = self.port(taken), self.port(other)
        other.socket.close()
        wanted = [ListenerSettings("127.0.0.1", free), ListenerSettings("127.0.0.1", port)]
        problem = self.assertRaises(StartFailure, bind_all, wanted)
        self.assertEqual(
            str(problem),
            f"smtp.ini listen: cannot bind 127.0.0.1:{port}: Address already in use; "
            "another program listens there",
        )
        self.bind(wanted[0])

    def test_foreign_address(self) -> None:
        """An address that is none of this machine is told in words."""
        problem = self.assertRaises(StartFailure, bind_all, [ListenerSettings("192.0.2.1", 0)])
        self.assertIn("cannot bind 192.0.2.1:0: ", str(problem))
        self.assertIn("this machine has no such address", str(problem))

    def test_not_open_yet(self) -> None:
        """What is bound for later refuses connections; and opens when it is told to."""
        later, now = (ListenerSettings("127.0.0.1", 0, implicit) for implicit in (True, False))
        bound = bind_all([later, now], closed={later})
        for one in bound:
            self.addCleanup(one.socket.close)
        address = bound[0].socket.getsockname()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address, timeout=10)
        socket.create_connection(bound[1].socket.getsockname(), timeout=10).close()
        bound[0].open()
        socket.create_connection(address, timeout=10).close()

    def test_taken_meanwhile(self) -> None:
        """Until it opens, another program may take it: that is told, and it may open later."""
        later = ListenerSettings("127.0.0.1", 0, True)
        (bound,) = bind_all([later], closed={later})
        self.addCleanup(bound.socket.close)
        other = socket.socket()
        self.addCleanup(other.close)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(bound.socket.getsockname())
        other.listen()
        problem = self.assertRaises(StartFailure, bound.open)
        self.assertIn(f"cannot listen on {bound}: Address already in use; ", str(problem))
        other.close()
        bound.open()
        socket.create_connection(bound.socket.getsockname(), timeout=10).close()

    def test_both_families(self) -> None:
        """``::`` serves IPv4 as well, but leaves it to a listener on 0.0.0.0 beside it."""
        if not socket.has_ipv6:
            raise SkipTest("no IPv6")
        try:
            (both,) = self.bind(ListenerSettings("::", 0))
        except StartFailure:
            raise SkipTest("no IPv6") from None
        self.assertFalse(both.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        (four,) = self.bind(ListenerSettings("0.0.0.0", 0))
        port = self.port(four)
        four.socket.close()
        six, four = self.bind(ListenerSettings("::", port), ListenerSettings("0.0.0.0", port))
        self.assertTrue(six.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
