"""xclient: to whom XCLIENT is offered."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.connection import Connection, Endpoint
from harakatls.plugins.xclient import XClientOffer, load
from harakatls.smtp.capabilities import Capabilities
from tests.plugins.support import connection_from, result_of, site_of


class XClientTests(SynchronousTestCase):
    def plugin(self, hosts: str = "") -> XClientOffer:
        return load(site_of(self, {"xclient.hosts": hosts}))

    def is_offered(self, plugin: XClientOffer, connection: Connection) -> bool:
        offered = result_of(self, plugin.capabilities(connection, Capabilities.of("SIZE 1")))
        self.assertIn("SIZE", offered)
        return "XCLIENT" in offered

    def test_attributes(self) -> None:
        """The offer names the attributes."""
        offered = result_of(
            self, self.plugin().capabilities(connection_from("127.0.0.1"), Capabilities())
        )
        self.assertEqual(
            offered.items, (("XCLIENT", "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"),)
        )

    def test_hosts(self) -> None:
        """This machine always may, others by address or network."""
        plugin = self.plugin("192.0.2.1\n198.51.100.0/24 \n# no\n2001:db8::1\n")
        for host, offered in (
            ("127.0.0.1", True),
            ("::1", True),
            ("127.0.0.2", False),
            ("192.0.2.1", True),
            ("192.0.2.2", False),
            ("198.51.100.77", True),
            ("2001:db8::1", True),
            ("2001:db8::2", False),
        ):
            self.assertEqual(self.is_offered(plugin, connection_from(host)), offered, host)

    def test_no_file(self) -> None:
        """Without the file nobody else may."""
        plugin = load(site_of(self, {}))
        self.assertFalse(self.is_offered(plugin, connection_from("192.0.2.1")))

    def test_again(self) -> None:
        """Whoever speaks behind XCLIENT may be the client, which is nobody's proxy."""
        for peer in ("203.0.113.1", "127.0.0.1"):
            connection = evolve(connection_from(peer), xclient_by=Endpoint("127.0.0.1", 40000))
            self.assertFalse(self.is_offered(self.plugin(peer), connection))

    def test_told_address(self) -> None:
        """A client may not because XCLIENT has told an address that may."""
        connection = evolve(connection_from("127.0.0.1"), xclient_by=Endpoint("192.0.2.1", 40000))
        self.assertFalse(self.is_offered(self.plugin(), connection))

    def test_behind_a_proxy(self) -> None:
        """The client of a proxy counts, not the proxy: it passes on whatever clients say."""
        local = Endpoint("127.0.0.1", 40000)
        client = evolve(connection_from("203.0.113.1"), proxied_by=local)
        self.assertFalse(self.is_offered(self.plugin(), client))
        self.assertTrue(self.is_offered(self.plugin("203.0.113.1"), client))
        unknown = evolve(client, peer=local)
        self.assertFalse(self.is_offered(self.plugin(), unknown))

    def test_on_the_machine_of_a_proxy(self) -> None:
        """What a proxy elsewhere calls 127.0.0.1 is not this machine."""
        client = evolve(connection_from("127.0.0.1"), proxied_by=Endpoint("192.0.2.1", 40000))
        self.assertFalse(self.is_offered(self.plugin(), client))
        self.assertTrue(self.is_offered(self.plugin("127.0.0.1"), client))
        here = evolve(client, proxied_by=Endpoint("127.0.0.1", 40001))
        self.assertTrue(self.is_offered(self.plugin(), here))

    def test_names(self) -> None:
        """A name would never match, so it is refused."""
        for entry in ("proxy.example", "*.example"):
            with self.assertRaises(ConfigError) as caught:
                self.plugin(f"192.0.2.1\n{entry}\n")
            self.assertIn("xclient.hosts: ", str(caught.exception))
            self.assertIn(f"'{entry}' is a name; expected an address", str(caught.exception))
