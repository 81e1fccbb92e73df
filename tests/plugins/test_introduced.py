"""Back ends that want to know for which client they are spoken to (XCLIENT)."""

from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent

from harakatls.connection import Connection, Endpoint, Hello
from harakatls.outbound.delivery import Opener
from harakatls.plugins.smtp_forward import SMTPForward
from harakatls.plugins.smtp_forward import load as load_forward
from harakatls.plugins.smtp_proxy import SMTPProxy
from harakatls.plugins.smtp_proxy import load as load_proxy
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import HANG_UP, ObligingPeer
from harakatls.verdict import CONTINUE, Accept, TempFail, Verdict
from tests.plugins.back_ends import FIRST, BackEndCase
from tests.plugins.support import ME, Message, connection_from, staged, transaction_for

INI = "host=back1.example\nport=2525\n"
WHO = "a@one.example"
OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
LOGIN = "auth_user=front\nauth_pass=s3cret\nauth_without_tls=true\n"


def client(number: int = 1, **facts: Any) -> Connection:
    """One that has said EHLO, from an address of its own."""
    connection = connection_from(f"192.0.2.{number}")
    hello = Hello(f"client{number}.example", extended=True)
    return evolve(connection, id=f"C0FFEE{number}", **{"hello": hello, **facts})


class IntroducedCase(BackEndCase):
    def forward(self, ini: str = INI) -> SMTPForward:
        return load_forward(self.site(smtp_forward=ini))

    def proxy(self, ini: str = INI) -> SMTPProxy:
        return load_proxy(self.site(smtp_proxy=ini))

    def handed_on(self, plugin: SMTPForward, connection: Connection) -> Verdict:
        """One message through queue/smtp_forward."""
        return self.ask(plugin.queue(connection, transaction_for(WHO), staged(Message())))

    def verbs(self, peer: ObligingPeer) -> list[str]:
        """What was said, as far as the first word."""
        return [line.split(" ")[0] for line in peer.commands]


class ForwardTests(IntroducedCase):
    """queue/smtp_forward."""

    def test_told(self) -> None:
        """Behind EHLO, and EHLO once more; the client's address is no part of the envelope."""
        peer = ObligingPeer("8BITMIME", OFFER)
        self.serve(FIRST, peer)
        facts = {"peer_name": "dialin.example", "authenticated_as": "ann"}
        self.assertIsInstance(self.handed_on(self.forward(), client(1, **facts)), Accept)
        self.assertEqual(self.verbs(peer)[:6], ["EHLO", "XCLIENT", "EHLO", "MAIL", "RCPT", "DATA"])
        self.assertEqual(
            peer.commands[1],
            "XCLIENT NAME=dialin.example ADDR=192.0.2.1 PORT=40000 PROTO=ESMTP"
            " HELO=client1.example LOGIN=ann DESTADDR=192.0.2.25 DESTPORT=25",
        )
        # What is said at EHLO counts more than HELO, as with Postfix.
        self.assertEqual(peer.commands[2], "EHLO client1.example")

    def test_names_that_cannot_be_said(self) -> None:
        """Then it is ours; also where the back end does not like the client's."""
        offer = f"250-peer\n250 {OFFER}"
        odd = Hello("what \xfc may this be", extended=True)
        for peer, facts, said in (
            (ObligingPeer(OFFER), {"hello": None}, [f"EHLO {ME}"]),
            (ObligingPeer(OFFER), {"hello": odd}, [f"EHLO {ME}"]),
            (
                ObligingPeer(EHLO=[offer, "501 5.5.4 No", "250 peer"], HELO="501 5.5.4 No"),
                {},
                ["EHLO client1.example", "HELO client1.example", f"EHLO {ME}"],
            ),
        ):
            self.setUp()
            self.serve(FIRST, peer)
            self.assertIsInstance(self.handed_on(self.forward(), client(1, **facts)), Accept)
            self.assertEqual(peer.commands[2 : 2 + len(said)], said)
            self.assertTrue(peer.commands[2 + len(said)].startswith("MAIL"))

    def test_inside_of_tls(self) -> None:
        """Nobody on the way hears of the client."""
        peer = ObligingPeer("STARTTLS", OFFER)
        self.serve(FIRST, peer)
        plugin = self.forward(f"{INI}enable_tls=true\n")
        pretended: Any = PretendedTLS()
        pretended.settings = self.back_ends._tls["smtp_forward"]
        self.back_ends._clients["smtp_forward"] = pretended
        self.assertIsInstance(self.handed_on(plugin, client()), Accept)
        self.assertEqual(
            self.verbs(peer)[:6], ["EHLO", "STARTTLS", "EHLO", "XCLIENT", "EHLO", "MAIL"]
        )
        self.assertEqual([said.secured for said in peer.said[:4]], [False, False, True, True])

    def test_our_own_login(self) -> None:
        """It comes behind XCLIENT, and with it no other is told: a server knows of one."""
        peer = ObligingPeer(OFFER, "AUTH PLAIN", AUTH="235 2.7.0 Welcome")
        self.serve(FIRST, peer)
        connection = client(1, authenticated_as="ann")
        self.assertIsInstance(self.handed_on(self.forward(INI + LOGIN), connection), Accept)
        self.assertEqual(self.verbs(peer)[:5], ["EHLO", "XCLIENT", "EHLO", "AUTH", "MAIL"])
        self.assertIn("LOGIN=[UNAVAILABLE]", peer.commands[1])

    def test_one_client_each(self) -> None:
        """A connection that was introduced for one client carries nobody else's mail."""
        peers = [ObligingPeer(OFFER) for _ in range(2)]
        self.serve(FIRST, *peers)
        plugin = self.forward()
        for number in (1, 2):
            self.assertIsInstance(self.handed_on(plugin, client(number)), Accept)
        for number, peer in enumerate(peers, 1):
            self.assertIn(f"ADDR=192.0.2.{number} ", peer.commands[1])
            self.assertEqual(len(peer.messages), 1)

    def test_kept_where_it_is_not_offered(self) -> None:
        """Back ends that do not want to know get many messages over one connection, as ever."""
        peer = ObligingPeer("8BITMIME")
        self.serve(FIRST, peer)
        plugin = self.forward()
        for number in (1, 2):
            self.assertIsInstance(self.handed_on(plugin, client(number)), Accept)
        self.assertEqual(len(peer.messages), 2)
        self.assertNotIn("XCLIENT", self.verbs(peer))

    def test_refused(self) -> None:
        """That is no fault of the mail's. It is in the log once; and the connection is not kept."""
        refusal = "550 5.7.0 Error: insufficient authorization"
        peers = [ObligingPeer(OFFER, XCLIENT=refusal) for _ in range(2)]
        self.serve(FIRST, *peers)
        plugin = self.forward()
        with capturedLogs() as events:
            for number in (1, 2):
                self.assertIsInstance(self.handed_on(plugin, client(number)), Accept)
        lines = [str(formatEvent(event)) for event in events]
        (line,) = [line for line in lines if "XCLIENT" in line]
        self.assertIn(f"back1.example offers XCLIENT and refuses it: {refusal}", line)
        for peer in peers:
            self.assertEqual(self.verbs(peer)[:3], ["EHLO", "XCLIENT", "MAIL"])
            self.assertEqual(len(peer.messages), 1)

    def test_trouble(self) -> None:
        """A back end that leaves, or does not know the client afterwards: it is to come back."""
        hello = f"250-peer\n250 {OFFER}"
        for peer in (
            ObligingPeer(OFFER, XCLIENT="421 4.3.2 Closing"),
            ObligingPeer(OFFER, XCLIENT=HANG_UP),
            ObligingPeer(OFFER, XCLIENT="354 What"),
            ObligingPeer(EHLO=[hello, *["550 5.7.1 Go away"] * 2], HELO="550 5.7.1 Go away"),
            ObligingPeer(EHLO=[hello, "421 4.7.0 Go away"]),
        ):
            self.setUp()
            self.serve(FIRST, peer)
            self.assertIsInstance(self.handed_on(self.forward(), client()), TempFail)
            self.assertEqual(peer.messages, [])

    def test_switched_off(self) -> None:
        """xclient=false: the back end sees us."""
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        plugin = self.forward(f"{INI}xclient=false\n")
        self.assertIsInstance(self.handed_on(plugin, client()), Accept)
        self.assertNotIn("XCLIENT", self.verbs(peer))

    def test_no_client(self) -> None:
        """Mail of this server itself, a report say, is our own."""
        ourselves = Endpoint("127.0.0.1", 0)
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        connection = Connection("REPORT", ourselves, ourselves)
        self.assertIsInstance(self.handed_on(self.forward(), connection), Accept)
        self.assertNotIn("XCLIENT", self.verbs(peer))

    def test_a_proxy_that_tells_nothing(self) -> None:
        """Its address is not that of the client."""
        proxy = Endpoint("192.0.2.99", 40000)
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        connection = client(1, peer=proxy, proxied_by=proxy)
        self.assertIsInstance(self.handed_on(self.forward(), connection), Accept)
        self.assertIn("ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] ", peer.commands[1])


class QueueTests(IntroducedCase):
    """The same back ends for mail that has waited in the queue."""

    def opened(self, plugin: SMTPForward) -> Any:
        """A connection as a delivery from the queue gets it, given back at once."""
        settings = plugin.settings.usual
        connector: Opener = self.back_ends.connector(settings.options)
        hop = evolve(settings.hops[0], host=FIRST)
        opened: Any = self.ask(_awaited(connector.open(hop, 0)))
        connector.leave(opened)
        self.network.flush()
        return opened

    def test_not_told(self) -> None:
        """Its client is gone; and its connection is not for one that is there."""
        peers = [ObligingPeer(OFFER), ObligingPeer(OFFER)]
        self.serve(FIRST, *peers)
        plugin = self.forward()
        self.opened(plugin)
        self.assertIsInstance(self.handed_on(plugin, client()), Accept)
        self.assertEqual(self.verbs(peers[0]), ["EHLO"])
        self.assertEqual(self.verbs(peers[1])[:2], ["EHLO", "XCLIENT"])
        # Nor the other way round.
        self.assertEqual(self.opened(plugin).earlier, 1)
        self.assertEqual(len(self.network.attempts), 2)

    def test_shared_where_it_is_not_offered(self) -> None:
        """A connection that clients' mail has left is good for what waits."""
        self.serve(FIRST, ObligingPeer("8BITMIME"))
        plugin = self.forward()
        self.assertIsInstance(self.handed_on(plugin, client()), Accept)
        self.assertEqual(self.opened(plugin).earlier, 1)


class ProxyTests(IntroducedCase):
    """queue/smtp_proxy."""

    def mail(self, plugin: SMTPProxy, connection: Connection) -> Verdict:
        return self.ask(plugin.mail(connection, transaction_for()))

    def test_told(self) -> None:
        """The back end knows the client before its MAIL."""
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        self.assertEqual(self.mail(self.proxy(), client()), CONTINUE)
        self.assertEqual(self.verbs(peer), ["EHLO", "XCLIENT", "EHLO", "MAIL"])
        self.assertIn("ADDR=192.0.2.1 ", peer.commands[1])

    def test_one_conversation(self) -> None:
        """The next message of the same client needs no second introduction."""
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        plugin = self.proxy()
        for _ in range(2):
            self.assertEqual(self.mail(plugin, client()), CONTINUE)
        self.assertEqual(self.verbs(peer).count("XCLIENT"), 1)

    def test_a_client_that_has_logged_in_since(self) -> None:
        """The back end is told so, on another connection."""
        peers = [ObligingPeer(OFFER), ObligingPeer(OFFER)]
        self.serve(FIRST, *peers)
        plugin = self.proxy()
        self.mail(plugin, client())
        self.assertEqual(self.mail(plugin, client(1, authenticated_as="ann")), CONTINUE)
        self.assertEqual(self.verbs(peers[0])[-1], "QUIT")
        self.assertIn("LOGIN=ann ", peers[1].commands[1])

    def test_switched_off(self) -> None:
        """With xclient=false the back end is told nothing of the client."""
        peer = ObligingPeer(OFFER)
        self.serve(FIRST, peer)
        self.assertEqual(self.mail(self.proxy(f"{INI}xclient=false\n"), client()), CONTINUE)
        self.assertEqual(self.verbs(peer), ["EHLO", "MAIL"])


async def _awaited(asked: Any) -> Any:
    return await asked
