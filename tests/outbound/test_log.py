"""What the log tells of deliveries."""

from typing import Any

from twisted.logger import globalLogPublisher

from harakatls.queued import QueuedMessage
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase, three


class LogTests(DeliveryTestCase):
    """What the operator reads."""

    def events(self, queued: QueuedMessage | None = None) -> list[dict[str, Any]]:
        """Of the deliveries' logger, during one attempt."""
        found: list[dict[str, Any]] = []
        observe: Any = found.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.attempt(queued)
        return [e for e in found if e.get("log_namespace") == "harakatls.outbound"]

    def test_one_line_for_a_delivery(self) -> None:
        """With the fields that searches in logs are made for."""
        self.serve(ObligingPeer())
        (event,) = self.events()
        wanted = {
            "outcome": "delivered",
            "queue_id": queued_message().id,
            "domain": DOMAIN,
            "host": "mx1.example",
            "ip": FIRST,
            "port": 25,
            "tls": "N",
            "verified": False,
            "response": "250 2.0.0 Kept",
            "recipients": 1,
            "rcpts": "1/0/0",
            "fails": 0,
            "delay": 0,
        }
        self.assertEqual({key: event[key] for key in wanted}, wanted)

    def test_a_host_that_was_passed_over(self) -> None:
        """The line says which one, and why, before that of the next host."""
        self.serve(ObligingPeer(connect="421 4.3.2 Busy"), ObligingPeer())
        first, second = self.events()
        self.assertEqual((first["outcome"], first["response"]), ("unusable", "421 4.3.2 Busy"))
        self.assertEqual((second["outcome"], second["host"]), ("delivered", "mx2.example"))

    def test_no_host_at_all(self) -> None:
        """Each attempt ends with delivered, deferred or bounced."""
        *hosts, last = self.events()
        self.assertEqual([event["outcome"] for event in hosts], ["unusable"] * 2)
        self.assertEqual((last["outcome"], last["host"]), ("deferred", "mx3.example"))
        self.assertIn("Connection refused", str(last["response"]))

    def test_a_lasting_refusal_of_one_host_and_a_passing_one_of_another(self) -> None:
        """The line of the outcome is about the host that gives hope; the others have their own."""
        del self.exchangers[DOMAIN]
        self.exchangers[DOMAIN] = [(10, "mx1.example"), (20, "mx2.example")]
        self.serve(ObligingPeer(connect="421 4.3.2 Busy"), ObligingPeer(connect="554 5.7.1 No"))
        told = [(event["outcome"], event["host"]) for event in self.events()]
        self.assertEqual(
            told,
            [
                ("unusable", "mx1.example"),
                ("unusable", "mx2.example"),
                ("deferred", "mx1.example"),
            ],
        )

    def test_kinds_of_outcome_have_a_line_each(self) -> None:
        """A bounced recipient is found even where others were delivered."""
        self.serve(ObligingPeer(RCPT=["550 5.1.1 Unknown", "250 Ok"]))
        self.assertEqual(
            [(e["outcome"], e["recipients"], e["rcpts"]) for e in self.events(three())],
            [("bounced", 1, "2/0/1"), ("delivered", 2, "2/0/1")],
        )
