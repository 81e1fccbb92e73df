"""The peer's name: when it is asked for, who may tell it, and where it is shown."""

from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.connection import Connection
from harakatls.inbound.limits import PeerLimits
from harakatls.interfaces import ResolutionFailed
from harakatls.plugins.lookup_rdns import ReverseLookup
from harakatls.plugins.tls import StartTLSOffer
from harakatls.plugins.xclient import XClientOffer
from harakatls.testing.values import FixedResolver
from harakatls.verdict import ACCEPT
from tests.hooks.plugins import Everything
from tests.inbound.proxy_case import BLOCK, LINE, LOCAL, ProxyTestCase
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    MAIL,
    MESSAGE,
    QUIT,
    RCPT,
    SETTINGS,
    RefusingTLS,
    Talk,
    queued,
)

XCLIENT = b"XCLIENT ADDR=203.0.113.9\r\n"


class PeerNameTests(SynchronousTestCase):
    def told(self, plugin: Everything, stage: str = "connect") -> Connection:
        """What the last such hook was told."""
        found: Connection = plugin.told(stage)[-1][0]
        return found

    def test_before_connect(self) -> None:
        """All hooks but the one that finds it out know the peer's name."""
        plugin = Everything(peer_name="client.example")
        talk = Talk(plugin)
        self.assertEqual(talk.heard()[:4], "220 ")
        self.assertEqual(plugin.stages, ["peer_name", "connect", "relaying"])
        self.assertIsNone(self.told(plugin, "peer_name").peer_name)
        self.assertEqual(self.told(plugin).peer_name, "client.example")

    def test_shown(self) -> None:
        """In the answer to EHLO, the Received field (RFC 5321 section 4.4) and the log."""
        talk = Talk(Everything(peer_name="Host.Client.Example.", rcpt=ACCEPT))
        self.assertIn("mx.example Hello host.client.example [192.0.2.10], ", talk.say(EHLO))
        with capturedLogs() as events:
            talk.say(MAIL, RCPT, DATA, MESSAGE, END, QUIT)
            talk.conversation.leave()
        ((_, _, message),) = queued(talk.spool)
        self.assertIn(
            b"Received: from client.example (host.client.example [192.0.2.10])\r\n", message
        )
        (line,) = [str(formatEvent(e)) for e in events if "by_name" in e]
        self.assertIn(" 192.0.2.10:49152 name=host.client.example helo=client.example ", line)

    def test_nobody_knows(self) -> None:
        """Then all is as without a plugin for it."""
        for answer in (None, OSError("x")):
            talk = Talk(Everything(peer_name=answer))
            self.assertIn("mx.example Hello [192.0.2.10], ", talk.say(EHLO))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_first_name_counts(self) -> None:
        """Whoever fails or says nonsense is passed over, and so is who does not know."""
        last = Everything(peer_name="last.example")
        for odd in (
            None,
            OSError("x"),
            5,
            b"a.example",
            "a b",
            "a.example\r\nX: 1",
            "jörg.example",
        ):
            talk = Talk(Everything(peer_name=odd), Everything(peer_name="a.example"), last)
            self.assertIn("Hello a.example [", talk.say(EHLO))
        self.assertEqual(last.stages.count("peer_name"), 0)
        self.flushLoggedErrors(OSError)

    def test_too_slow(self) -> None:
        """A hook has its time, and the greeting comes all the same."""
        talk = Talk(Everything(peer_name=Deferred()), timeouts=[7])
        talk.clock.advance(6.9)
        self.assertEqual(talk.heard(), "")
        talk.clock.advance(0.2)
        self.assertEqual(talk.heard()[:4], "220 ")

    def test_peer_leaves(self) -> None:
        """Nobody else is asked about a peer that has gone, and nothing is left of it."""
        plugin, other = Everything(peer_name=Deferred()), Everything()
        talk = Talk(plugin, other)
        talk.conversation.leave()
        self.assertEqual(talk.over, [None])
        self.assertEqual(plugin.stages, ["peer_name", "disconnected"])
        self.assertEqual(other.stages, ["disconnected"])
        self.assertEqual(talk.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_early_talker(self) -> None:
        """Who does not wait while the name is looked up is known for it."""
        name: Deferred[Any] = Deferred()
        plugin = Everything(peer_name=name)
        talk = Talk(plugin, settings=evolve(SETTINGS, peers=PeerLimits(refuse_early_talkers=True)))
        self.assertEqual(talk.say(EHLO), "")
        name.callback("client.example")
        self.assertEqual(talk.heard()[:4], "554 ")
        self.assertTrue(self.told(plugin, "connect").early_talker)
        self.assertEqual(self.told(plugin, "connect").peer_name, "client.example")

    def test_tls(self) -> None:
        """It is asked for once, and outlives the handshake."""
        for implicit_tls in (False, True):
            plugin = Everything(peer_name="client.example")
            tls: Any = RefusingTLS()
            talk = Talk(plugin, StartTLSOffer(tls), tls=tls, implicit_tls=implicit_tls)
            if not implicit_tls:
                talk.say(EHLO, b"STARTTLS\r\n")
            talk.secured()
            self.assertIn("Hello client.example [", talk.say(EHLO))
            self.assertEqual(plugin.stages.count("peer_name"), 1)

    def test_xclient(self) -> None:
        """The client's name is asked for where the proxy did not tell it."""
        for told, found, expected in (
            (b"", "client.example", "client.example"),
            (b"", None, None),
            (b" NAME=told.example", "client.example", "told.example"),
        ):
            plugin = Everything(peer_name="proxy.example")
            talk = Talk(XClientOffer(HostList.parse(["192.0.2.10"])), plugin)
            talk.say(EHLO)
            plugin.answers["peer_name"] = found
            plugin.asked.clear()
            talk.say(XCLIENT.replace(b"\r\n", told + b"\r\n"))
            self.assertEqual(self.told(plugin).peer_name, expected)
            self.assertEqual("peer_name" in plugin.stages, not told)
            if not told:
                self.assertEqual(self.told(plugin, "peer_name").peer.host, "203.0.113.9")

    @settings(max_examples=50)
    @given(st.text(max_size=300) | st.from_regex(r"[a-z0-9._-]{1,300}\s*"))
    def test_any_name(self, name: str) -> None:
        """No name can end the line it stands in, or bring in anything but a host name."""
        talk = Talk(Everything(peer_name=name, rcpt=ACCEPT))
        first = talk.say(EHLO).splitlines()[0]
        self.assertRegex(first, r"^250-mx\.example Hello ([a-z0-9_.-]{1,253} )?\[192\.0\.2\.10\], ")


class BehindProxyTests(ProxyTestCase):
    def test_client(self) -> None:
        """It is the client's name that is asked for, once the proxy has told who it is."""
        self.plugin.answers["peer_name"] = "client.example"
        for header in (LINE, BLOCK):
            transport = self.connect()
            self.assertEqual(self.plugin.stages, [])
            transport.protocol.dataReceived(header)
            self.assertEqual(self.plugin.stages[:2], ["peer_name", "connect"])
            self.assertEqual(self.plugin.asked[0][1][0].peer.host, "192.0.2.1")
            self.assertEqual(self.connection().peer_name, "client.example")
            self.plugin.asked.clear()

    def test_anonymous(self) -> None:
        """The proxy's own name would be taken for the client's."""
        self.plugin.answers["peer_name"] = "proxy.example"
        transport = self.connect()
        transport.protocol.dataReceived(LOCAL)
        self.assertNotIn("peer_name", self.plugin.stages)
        self.assertIsNone(self.connection().peer_name)


class LookedUpTests(SynchronousTestCase):
    """With the plugin lookup_rdns."""

    def hello(self, resolver: FixedResolver) -> str:
        talk = Talk()
        talk = Talk(ReverseLookup(resolver, talk.clock, 4.0), clock=talk.clock)
        return talk.say(EHLO).splitlines()[0]

    def test_found(self) -> None:
        """A name that leads back to the address."""
        back = {"client.example": ["192.0.2.10"]}
        line = self.hello(FixedResolver(hosts=back, pointers={"192.0.2.10": ["client.example"]}))
        self.assertIn(" Hello client.example [192.0.2.10], ", line)

    def test_not_found(self) -> None:
        """All others are greeted by their address."""
        for pointers in (
            {},
            {"192.0.2.10": ["mx.bank.example"]},
            {"192.0.2.10": ResolutionFailed()},
        ):
            self.assertIn(" Hello [192.0.2.10], ", self.hello(FixedResolver(pointers=pointers)))
