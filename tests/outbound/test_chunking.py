"""Delivery with BDAT (RFC 3030)."""

from typing import Any

from attrs import evolve

from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.protocol import CHUNK
from harakatls.queued import Delivered, QueuedMessage
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import MESSAGE, queued_message
from tests.outbound.support import DOMAIN, FIRST, Bodies, DeliveryTestCase

LARGE = MESSAGE + b".A line of text\r\n" * (CHUNK // 16)


def three(**changes: Any) -> QueuedMessage:
    """For ann, bob and cid."""
    return queued_message(recipients=[f"{n}@{DOMAIN}" for n in ("ann", "bob", "cid")], **changes)


class ChunkingTests(DeliveryTestCase):
    def peer(self, *extensions: str, **answers: Any) -> ObligingPeer:
        """It offers CHUNKING and 8BITMIME."""
        peer = ObligingPeer("CHUNKING", "8BITMIME", *extensions, **answers)
        self.serve(peer)
        return peer

    def test_in_one_flight(self) -> None:
        """A small message is sent with its envelope, before anything of it is answered."""
        peer = self.peer("PIPELINING", MAIL=SILENCE)
        self.begin()
        verbs = [command.split()[0] for command in peer.commands]
        self.assertEqual(verbs, ["EHLO", "MAIL", "RCPT", "BDAT"])
        self.assertEqual(peer.messages, [MESSAGE])

    def test_the_message_arrives(self) -> None:
        """Whatever else is offered, and whatever its size, with our field on top."""
        for message in (MESSAGE, LARGE):
            for extensions in (("PIPELINING",), ()):
                self.setUp()
                self.bodies = Bodies(message)
                peer = self.peer(*extensions)
                delivery = self.delivery(received_header="here")
                result = self.attempt(three(size=len(message)), delivery)
                self.assertEqual([type(o) for o in result.outcomes], [Delivered] * 3)
                (arrived,) = peer.messages
                self.assertTrue(arrived.startswith(b"Received: (here);"))
                self.assertTrue(arrived.endswith(message))
                self.assertEqual(peer.commands[-1], "QUIT")
                self.assertNothingIsLeft()

    def test_switched_off(self) -> None:
        """chunking=false: always DATA."""
        peer = self.peer("PIPELINING")
        self.attempt(delivery=self.delivery(chunking=False))
        self.assertIn("DATA", peer.commands)

    def test_refusals(self) -> None:
        """Each recipient has the answer that is about it."""
        for extensions in (("PIPELINING",), ()):
            self.setUp()
            self.peer(*extensions, RCPT=["250 Ok", "550 5.1.1 No such user", "451 4.7.1 Later"])
            self.assertEqual(
                self.told(self.attempt(three())),
                {
                    f"ann@{DOMAIN}": "delivered 250 2.0.0 Kept",
                    f"bob@{DOMAIN}": "failed 550 5.1.1 No such user",
                    f"cid@{DOMAIN}": "delayed 451 4.7.1 Later",
                },
            )
            self.assertNothingIsLeft()

    def test_all_refused(self) -> None:
        """At MAIL, at RCPT or at the message: that is the answer, not what follows from it."""
        for step in ("MAIL", "RCPT", "BDAT"):
            for extensions in (("PIPELINING",), ()):
                self.setUp()
                self.peer(*extensions, **{step: "550 5.7.1 Not you"})
                told = self.told(self.attempt(three()))
                self.assertEqual(set(told.values()), {"failed 550 5.7.1 Not you"}, step)
                self.assertNothingIsLeft()

    def test_too_many_recipients(self) -> None:
        """Those who were too many get the message in another transaction."""
        peer = self.peer("PIPELINING", RCPT=["250 Ok", "452 4.5.3 Too many", "452 4.5.3 Too many"])
        told = self.told(self.attempt(three()))
        self.assertEqual(set(told.values()), {"delivered 250 2.0.0 Kept"})
        self.assertEqual(peer.messages, [MESSAGE, MESSAGE])
        self.assertNotIn("RSET", peer.commands)

    def test_a_broken_connection(self) -> None:
        """The server may have the message, so nobody else is given it in this attempt."""
        for step in ("MAIL", "RCPT", "BDAT"):
            for ending in (BREAK_OFF, HANG_UP):
                self.setUp()
                other = ObligingPeer()
                self.serve(
                    ObligingPeer("CHUNKING", "8BITMIME", "PIPELINING", **{step: ending}), other
                )
                told = self.only(self.attempt())
                self.assertTrue(told.startswith("delayed 451 4.4.2"), told)
                self.assertIn("may arrive twice", told)
                self.assertEqual(other.commands, [])
                self.assertNothingIsLeft()

    def test_silence(self) -> None:
        """A server that swallows the message and says nothing is given up in its time."""
        self.peer("PIPELINING", BDAT=SILENCE)
        told = self.only(self.after(600, self.begin()))
        self.assertIn("no answer within 600 seconds", told)
        self.assertIn("may arrive twice", told)
        self.assertNothingIsLeft()

    def test_a_server_that_takes_what_it_refused(self) -> None:
        """A message for a sender who was refused is nobody's, whatever the server says then."""
        self.peer("PIPELINING", MAIL="550 5.7.1 Not you", RCPT="250 Ok", BDAT="250 Kept")
        self.assertEqual(self.only(self.attempt()), "failed 550 5.7.1 Not you")

    def test_lmtp(self) -> None:
        """A store that offers it gets one chunk, and answers for each recipient."""
        self.hops = (NextHop(FIRST, DOMAIN, source="route", protocol=LMTP),)
        peer = self.peer(
            "PIPELINING",
            RCPT=["250 Ok", "550 5.1.1 No such user", "250 Ok"],
            BDAT="250 2.1.5 Saved\n452 4.2.2 Full",
        )
        self.assertEqual(
            self.told(self.attempt(three())),
            {
                f"ann@{DOMAIN}": "delivered 250 2.1.5 Saved",
                f"bob@{DOMAIN}": "failed 550 5.1.1 No such user",
                f"cid@{DOMAIN}": "delayed 452 4.2.2 Full",
            },
        )
        self.assertEqual(peer.messages, [MESSAGE])

    def test_wishes_about_reports(self) -> None:
        """They are passed on with BDAT as with DATA."""
        peer = self.peer("PIPELINING", "DSN")
        who = evolve(queued_message().pending[0], notify=frozenset({"DELAY"}))
        self.attempt(evolve(queued_message(), pending=(who,)))
        self.assertIn("RCPT TO:<bob@recipient.example> NOTIFY=DELAY", peer.commands)
