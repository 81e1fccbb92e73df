"""What the plugins that hand mail on share: the way to a back end, and what clients hear of it."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from harakatls.plugins.smtp_forward import load as load_forward
from harakatls.plugins.smtp_proxy import load as load_proxy
from harakatls.testing.peers import HANG_UP, ObligingPeer
from harakatls.verdict import Accept, TempFail, Verdict
from tests.plugins.back_ends import FIRST, BackEndCase, gone
from tests.plugins.support import Message, connection_from, recipient, staged, transaction_for

INI = "host=back1.example\nport=2525\n"
BOTH_INI = "host=both.example\nport=2525\n"
V6, V4 = "2001:db8::53", "192.0.2.53"
WHO = "a@one.example"


class HandedOnCase(BackEndCase):
    addresses = {"both.example": [V6, V4]}

    def forward(self, ini: str = INI) -> "Deferred[Verdict]":
        """One message through queue/smtp_forward."""
        plugin = load_forward(self.site(smtp_forward=ini))
        asked = plugin.queue(connection_from(), transaction_for(WHO), staged(Message()))
        return self.begin(asked)

    def proxy(self, ini: str = INI) -> "Deferred[Verdict]":
        """The same through queue/smtp_proxy, as far as it is not refused."""
        return self.begin(self._proxied(ini))

    async def _proxied(self, ini: str) -> Verdict:
        plugin = load_proxy(self.site(smtp_proxy=ini))
        connection, transaction = connection_from(), transaction_for(WHO)
        bare = evolve(transaction, envelope=evolve(transaction.envelope, recipients=()))
        steps: tuple[Any, ...] = (
            lambda: plugin.mail(connection, bare),
            lambda: plugin.accepted_rcpt(connection, transaction, recipient(WHO)),
            lambda: plugin.queue(connection, transaction, staged(Message())),
        )
        for step in steps:
            verdict: Verdict = await step()
            if isinstance(verdict, TempFail):
                break
        return verdict


class WhatClientsHearTests(HandedOnCase):
    def test_nothing_of_the_network_behind(self) -> None:
        """Host, address and port of a back end are for the log, whatever goes wrong with it."""
        for way in ("forward", "proxy"):
            for peer in (None, *gone()):
                self.setUp()
                if peer is not None:
                    self.serve(FIRST, peer)
                with capturedLogs() as events:
                    verdict = self.successResultOf(getattr(self, way)())
                assert isinstance(verdict, TempFail), verdict
                assert verdict.reply is not None
                self.assertEqual(verdict.reply.code, 451)
                for detail in ("back1", FIRST, "2525", "192.0.2"):
                    self.assertNotIn(detail, str(verdict.reply))
                logged = " ".join(str(formatEvent(event)) for event in events)
                self.assertIn("back end back1.example", logged)

    def test_it_may_have_the_message(self) -> None:
        """Behind the end of the data the client is told that it may arrive twice."""
        for way in ("forward", "proxy"):
            self.setUp()
            self.serve(FIRST, ObligingPeer(end=HANG_UP))
            verdict = self.successResultOf(getattr(self, way)())
            assert isinstance(verdict, TempFail), verdict
            self.assertIn("may arrive twice", str(verdict.reply))


class BothFamiliesTests(HandedOnCase):
    """A back end with IPv6 and IPv4, where nothing answers at the first of them."""

    def test_the_other_is_asked_soon(self) -> None:
        """Nobody waits for half a minute at each message."""
        for way in ("forward", "proxy"):
            self.setUp()
            self.network.swallow(V6)
            self.serve(V4, ObligingPeer())
            running = getattr(self, way)(BOTH_INI)
            self.assertNoResult(running)
            self.clock.advance(2.1)
            self.network.flush()
            self.assertIsInstance(self.successResultOf(running), Accept)
            self.assertEqual(self.network.attempts, [(V6, 2525), (V4, 2525)])

    def test_what_it_says_counts(self) -> None:
        """An address that was asked ahead of its turn, and refused us, is not asked again."""
        self.network.swallow(V6)
        self.serve(V4, ObligingPeer(connect="554 5.3.2 Not today"), ObligingPeer())
        running = self.forward(BOTH_INI)
        self.clock.advance(2.1)
        self.network.flush()
        self.assertIsInstance(self.successResultOf(running), TempFail)
        self.assertEqual(self.network.attempts, [(V6, 2525), (V4, 2525)])


class RefusedLoginTests(HandedOnCase):
    """A back end that does not know our password."""

    def test_not_for_each_client(self) -> None:
        """The next message is put off without a connection."""
        ini = f"{INI}auth_user=bob\nauth_pass=s3cret\nauth_without_tls=true\n"
        peers = [ObligingPeer("AUTH PLAIN", AUTH="535 5.7.8 No") for _ in range(2)]
        self.serve(FIRST, *peers)
        for _ in range(2):
            self.assertIsInstance(self.successResultOf(self.forward(ini)), TempFail)
        self.assertEqual(len(self.network.attempts), 1)
        plugin = load_forward(self.site(smtp_forward=ini))
        (hop,) = plugin.settings.usual.hops
        self.assertIn("refused our login", self.back_ends.logins.problem(hop) or "")
        self.clock.advance(60)
        self.assertIsInstance(self.successResultOf(self.forward(ini)), TempFail)
        self.assertEqual(len(self.network.attempts), 2)
