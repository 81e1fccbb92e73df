"""Several hosts that do the same."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import NextHop
from harakatls.plugins.host_pool import HostPool

A, B, C = (NextHop(f"192.0.2.{n}", "") for n in (1, 2, 3))


class HostPoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.pool = HostPool((A, B, C), self.clock.seconds, 10.0, shuffle=lambda hosts: None)

    def first(self) -> NextHop:
        return self.pool.hosts()[0]

    def test_in_turn(self) -> None:
        """Each is the first one as often as the others."""
        self.assertEqual([self.first() for _ in range(6)], [A, B, C, A, B, C])
        self.assertEqual(self.pool.hosts(), (A, B, C))
        self.assertEqual(self.pool.hosts(), (B, C, A))

    def test_one_that_failed(self) -> None:
        """It is asked behind the others until it has had its rest; then as before."""
        self.pool.failed(A)
        self.assertEqual([self.pool.hosts()[-1] for _ in range(3)], [A, A, A])
        self.clock.advance(10.1)
        self.assertEqual([self.first() for _ in range(3)], [A, B, C])

    def test_one_that_is_back(self) -> None:
        """A host that has worked is trusted at once."""
        self.pool.failed(A)
        self.pool.worked(A)
        self.assertEqual(self.first(), A)

    def test_all_failed(self) -> None:
        """There is always one to try."""
        for host in (A, B, C):
            self.pool.failed(host)
        self.assertEqual(set(self.pool.hosts()), {A, B, C})

    def test_random(self) -> None:
        """Servers that start together do not all begin with the same host."""
        hosts = [NextHop(f"192.0.2.{n}", "") for n in range(100)]
        self.assertNotEqual(HostPool(hosts, self.clock.seconds).hosts(), tuple(hosts))
