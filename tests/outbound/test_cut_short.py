"""Servers that are gone after any octet, said or heard: nothing is lost, nothing arrives twice."""

from collections.abc import Iterator
from typing import Any

from harakatls.config.hosts import HostList
from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.delivery import Result
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.testing.peers import BREAK_OFF, HANG_UP, Act, ObligingPeer
from harakatls.testing.values import MESSAGE, queued_message
from harakatls.tls.settings import OutboundTLS
from tests.outbound.bad_peers import UNKNOWN, FewWords, ShortEars, WithoutAnn
from tests.outbound.support import DOMAIN, FIRST, SECOND, DeliveryTestCase

KEPT = "250 2.0.0 Kept"
PLAIN = ("8BITMIME", "SIZE")
PIPELINING = ("PIPELINING", *PLAIN)
CHUNKING = ("CHUNKING", *PIPELINING)
FORCED = OutboundTLS(force_tls_hosts=HostList.parse([DOMAIN]))
ENOUGH = 2000  # octets; no conversation here has as many


def three() -> QueuedMessage:
    """For ann, whom the server does not know, and for bob and cid."""
    return queued_message(recipients=[f"{name}@{DOMAIN}" for name in ("ann", "bob", "cid")])


class CutShortTestCase(DeliveryTestCase):
    """
    The first host is gone after so many octets, the second one takes everything.

    @ivar last: octets at which the first host was no longer cut short.
    """

    def conversations(
        self,
        kind: type[FewWords] | type[ShortEars],
        *extensions: str,
        forced: bool = False,
        **answers: Any,
    ) -> Iterator[tuple[ObligingPeer, ObligingPeer, Result]]:
        """One for each number of octets, with both ways to be gone."""
        self.last = 0
        for octets in range(1, ENOUGH):
            hops = self.hops
            self.setUp()
            self.hops = hops
            ending: Act = (HANG_UP, BREAK_OFF)[octets % 2]
            first = kind(octets, ending, *extensions, **self.answers(), **answers)
            second = WithoutAnn(*extensions, **self.answers())
            self.serve(first, second)
            delivery = self.delivery(FORCED) if forced else self.delivery()
            result = self.attempt(three(), delivery)
            self.assertNothingIsLeft()
            yield first, second, result
            if "QUIT" in first.commands:
                self.last = octets
                return

    def answers(self) -> dict[str, Any]:
        """Of both hosts."""
        return {}


class CutShortTests(CutShortTestCase):
    """SMTP."""

    def assert_right(self, first: ObligingPeer, second: ObligingPeer, result: Result) -> None:
        """Who has the message, who does not, and what is believed of it."""
        at = f"after {first.commands}"
        outcomes = {str(o.recipient.address)[:3]: o for o in result.outcomes}
        self.assertEqual(sorted(outcomes), ["ann", "bob", "cid"], at)
        self.assertLessEqual(len(first.messages) + len(second.messages), 1, at)
        for name in ("bob", "cid"):
            outcome = outcomes[name]
            self.assertFalse(isinstance(outcome, Failed), at)
            if isinstance(outcome, Delivered):
                taker = first if outcome.next_hop and outcome.next_hop.host == FIRST else second
                self.assertEqual(taker.messages, [MESSAGE], at)
            else:
                # The message was sent whole, and was not answered.
                self.assertIn("may arrive twice", str(outcome.reply), at)
                self.assertEqual(second.commands, [], at)
        self.assertEqual({type(outcomes[n]) for n in ("bob", "cid")}, {type(outcomes["bob"])})
        if isinstance(outcomes["ann"], Delayed):
            self.assertIsInstance(outcomes["bob"], Delayed, at)
        else:
            self.assertIsInstance(outcomes["ann"], Failed, at)
            self.assertEqual(str(outcomes["ann"].reply), UNKNOWN, at)

    def test_in_the_clear(self) -> None:
        """With commands one by one, pipelined, and with the message in one flight."""
        for kind in (FewWords, ShortEars):
            for extensions in (PLAIN, PIPELINING, CHUNKING, ("CHUNKING", *PLAIN)):
                for first, second, result in self.conversations(kind, *extensions):
                    self.assert_right(first, second, result)
                self.assertGreater(self.last, 100)

    def test_inside_of_tls(self) -> None:
        """Whatever breaks off, and however far it had come: a forced host gets nothing before."""
        for kind in (FewWords, ShortEars):
            for extensions in (("STARTTLS", *PIPELINING), ("STARTTLS", *CHUNKING)):
                for conversation in self.conversations(kind, *extensions, forced=True):
                    self.assert_right(*conversation)
                    for peer in conversation[:2]:
                        clear = {s.line.split(" ")[0] for s in peer.said if not s.secured}
                        self.assertLessEqual(clear, {"EHLO", "STARTTLS", "QUIT"})
                self.assertGreater(self.last, 100)


class CutShortLMTPTests(CutShortTestCase):
    """The same for mail stores, which answer for each recipient at the end."""

    def setUp(self) -> None:
        super().setUp()
        self.hops = tuple(
            NextHop(host, DOMAIN, source="route", protocol=LMTP) for host in (FIRST, SECOND)
        )

    def answers(self) -> dict[str, Any]:
        """Of both hosts."""
        return {"end": f"{KEPT}\n{KEPT}"}

    def assert_right(self, first: ObligingPeer, second: ObligingPeer, result: Result) -> None:
        """Whoever has been answered for has the message; nobody else is believed to."""
        at = f"after {first.commands}"
        outcomes = {str(o.recipient.address)[:3]: o for o in result.outcomes}
        self.assertLessEqual(len(first.messages) + len(second.messages), 1, at)
        bob, cid = outcomes["bob"], outcomes["cid"]
        if isinstance(cid, Delivered):
            self.assertIsInstance(bob, Delivered, at)
        for outcome in (bob, cid):
            self.assertFalse(isinstance(outcome, Failed), at)
            if isinstance(outcome, Delayed):
                self.assertIn("may arrive twice", str(outcome.reply), at)
                self.assertEqual(second.commands, [], at)

    def test_in_the_clear(self) -> None:
        """With commands one by one and pipelined."""
        for kind in (FewWords, ShortEars):
            for extensions in (PLAIN, PIPELINING):
                for first, second, result in self.conversations(kind, *extensions):
                    self.assert_right(first, second, result)
                self.assertGreater(self.last, 100)
