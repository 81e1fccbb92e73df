"""Delivery to a mail store: LMTP, with an answer for each recipient (RFC 2033)."""

from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import LMTP, LMTP_PORT, NextHop
from harakatls.outbound.log import log_hop
from harakatls.outbound.routing import Route
from harakatls.queued import Delivered, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import MESSAGE, queued_message, recipient
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

KEPT = "250 2.1.5 Saved"
FULL = "452 4.2.2 Mailbox full"
GONE = "550 5.2.1 Mailbox closed"


def three() -> QueuedMessage:
    """For ann, bob and cid."""
    return queued_message(recipients=[f"{name}@{DOMAIN}" for name in ("ann", "bob", "cid")])


class LMTPTests(DeliveryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hops = (NextHop(FIRST, DOMAIN, source="route", protocol=LMTP),)

    def store(self, *ends: str, **answers: Any) -> ObligingPeer:
        """@param ends: what it says of each recipient at the end of the data."""
        peer = ObligingPeer(end="\n".join(ends), **answers)
        self.serve(peer)
        return peer

    def test_the_message_arrives(self) -> None:
        """The store is greeted with LHLO, and gets the message once for all."""
        peer = self.store(KEPT, KEPT, KEPT)
        result = self.attempt(three())
        self.assertEqual([type(outcome) for outcome in result.outcomes], [Delivered] * 3)
        self.assertEqual(peer.commands[0], "LHLO mta.example")
        self.assertEqual(peer.messages, [MESSAGE])
        self.assertEqual(peer.commands[-1], "QUIT")
        self.assertNothingIsLeft()

    def test_each_has_its_own_answer(self) -> None:
        """One full mailbox delays one recipient; the others have the message."""
        for extensions in (("PIPELINING",), ("8BITMIME",)):
            self.setUp()
            self.serve(ObligingPeer(*extensions, end="\n".join((KEPT, FULL, GONE))))
            self.assertEqual(
                self.told(self.attempt(three())),
                {
                    f"ann@{DOMAIN}": f"delivered {KEPT}",
                    f"bob@{DOMAIN}": f"delayed {FULL}",
                    f"cid@{DOMAIN}": f"failed {GONE}",
                },
            )
            self.assertNothingIsLeft()

    def test_refused_before(self) -> None:
        """Who was refused at RCPT has no answer at the end; the answers are not shifted."""
        self.store(KEPT, FULL, RCPT=["250 Ok", "550 5.1.1 No such user", "250 Ok"])
        self.assertEqual(
            self.told(self.attempt(three())),
            {
                f"ann@{DOMAIN}": f"delivered {KEPT}",
                f"bob@{DOMAIN}": "failed 550 5.1.1 No such user",
                f"cid@{DOMAIN}": f"delayed {FULL}",
            },
        )

    def test_nobody_is_left(self) -> None:
        """Where all were refused no data is sent."""
        peer = self.store(RCPT="550 5.1.1 No such user", DATA="503 5.5.1 No recipients")
        told = self.told(self.attempt(three()))
        self.assertEqual(set(told.values()), {"failed 550 5.1.1 No such user"})
        self.assertEqual(peer.messages, [])

    def test_it_breaks_among_the_answers(self) -> None:
        """What was answered counts; the rest is tried again, and may arrive twice."""
        for end in ((f"{KEPT}\n{GONE}", BREAK_OFF), (f"{KEPT}\n{GONE}", HANG_UP)):
            self.setUp()
            self.serve(ObligingPeer(end=end))
            told = self.told(self.attempt(three()))
            self.assertEqual(told[f"ann@{DOMAIN}"], f"delivered {KEPT}")
            self.assertEqual(told[f"bob@{DOMAIN}"], f"failed {GONE}")
            self.assertIn("delayed 451 4.4.2", told[f"cid@{DOMAIN}"])
            self.assertIn("may arrive twice", told[f"cid@{DOMAIN}"])

    def test_it_stalls_among_the_answers(self) -> None:
        """A store that forgets one recipient does not hold up the delivery for ever."""
        self.serve(ObligingPeer(end=(f"{KEPT}\n{KEPT}", SILENCE)))
        told = self.told(self.after(600, self.begin(three())))
        self.assertEqual(told[f"bob@{DOMAIN}"], f"delivered {KEPT}")
        self.assertIn("no answer within 600 seconds", told[f"cid@{DOMAIN}"])
        self.assertNothingIsLeft()

    def test_it_leaves(self) -> None:
        """421 in the middle answers all that are still open."""
        self.store(KEPT, "421 4.3.2 Shutting down")
        told = self.told(self.attempt(three()))
        self.assertEqual(told[f"ann@{DOMAIN}"], f"delivered {KEPT}")
        for who in ("bob", "cid"):
            self.assertEqual(told[f"{who}@{DOMAIN}"], "delayed 421 4.3.2 Shutting down")

    def test_an_answer_too_many(self) -> None:
        """It is taken for nobody's; what was said of the recipients counts."""
        self.store(KEPT, KEPT, KEPT, GONE)
        told = self.told(self.attempt(three()))
        self.assertEqual(set(told.values()), {f"delivered {KEPT}"})

    def test_a_server_of_smtp(self) -> None:
        """A next hop that does not know LHLO is not asked in SMTP: mail waits, with the reason."""
        peer = self.store(LHLO="500 5.5.1 What?")
        told = self.only(self.attempt())
        self.assertIn("delayed 451 4.5.1 LHLO was refused, so it is no LMTP: 500 5.5.1 What?", told)
        self.assertEqual(peer.commands, ["LHLO mta.example", "QUIT"])

    def test_who_reports(self) -> None:
        """A store that does not offer DSN leaves "delivered" to us; one that does is told."""
        bob = evolve(queued_message().pending[0], notify=frozenset({"SUCCESS"}))
        queued = evolve(queued_message(), pending=(bob,))
        for extensions, command in (
            (("PIPELINING",), "RCPT TO:<bob@recipient.example>"),
            (("DSN",), "RCPT TO:<bob@recipient.example> NOTIFY=SUCCESS"),
        ):
            self.setUp()
            peer = ObligingPeer(*extensions, end=KEPT)
            self.serve(peer)
            (outcome,) = self.attempt(queued).outcomes
            assert isinstance(outcome, Delivered)
            self.assertEqual(outcome.will_report, "DSN" in extensions)
            self.assertEqual(outcome.next_hop.protocol, LMTP)
            self.assertIn(command, peer.commands)


class SocketTests(SynchronousTestCase):
    """A store on a Unix socket of this machine, which has neither name nor port."""

    hop = NextHop("/run/dovecot/lmtp", DOMAIN, LMTP_PORT, source="route", protocol=LMTP)

    def test_destination(self) -> None:
        """What deliveries at the same time are counted by."""
        self.assertEqual(Route(((self.hop,),)).destination, "/run/dovecot/lmtp")

    def test_log(self) -> None:
        """The path, where others have a host; no address, no port."""
        kept = Delivered(recipient(), Reply.of(250, "2.1.5", "Saved"), self.hop)
        with capturedLogs() as events:
            log_hop(queued_message(), self.hop, [kept], None, 0.0)
        (line,) = (str(formatEvent(event)) for event in events)
        self.assertIn(" host=/run/dovecot/lmtp ip= port= tls=N ", line)
