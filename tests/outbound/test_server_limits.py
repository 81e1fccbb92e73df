"""What a server says it allows (LIMITS, RFC 9422) is kept to."""

from harakatls.mail.route import NextHop
from harakatls.outbound.delivery import MOST_TRIALS
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase


def rcpts(peer: ObligingPeer) -> list[list[str]]:
    """The local parts of the recipients, by transaction."""
    found: list[list[str]] = []
    for command in peer.commands:
        if command.startswith("MAIL"):
            found.append([])
        elif command.startswith("RCPT"):
            found[-1].append(command.split("<")[1].split("@")[0])
    return found


class ServerLimitsTests(DeliveryTestCase):
    def deliver(self, *recipients: str) -> set[str]:
        """What each outcome begins with."""
        result = self.attempt(queued_message(recipients=recipients))
        self.assertEqual(len(result.outcomes), len(recipients))
        return {words.split()[0] for words in self.told(result).values()}

    def test_recipients(self) -> None:
        """RCPTMAX splits the recipients over transactions; without one they go together."""
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING"), ()):
            for limit, split in (
                ("RCPTMAX=2", [["a", "b"], ["c"]]),
                ("RCPTMAX=0", [["a", "b", "c"]]),
            ):
                self.setUp()
                peer = ObligingPeer("8BITMIME", f"LIMITS {limit}", *extensions)
                self.serve(peer)
                told = self.deliver(*(f"{name}@{DOMAIN}" for name in "abc"))
                self.assertEqual(told, {"delivered"})
                self.assertEqual(rcpts(peer), split)
                self.assertNothingIsLeft()

    def test_domains(self) -> None:
        """RCPTDOMAINMAX: no more domains in one transaction, in the order of the recipients."""
        peer = ObligingPeer("LIMITS RCPTDOMAINMAX=1 RCPTMAX=2")
        self.serve(peer)
        self.hops = (NextHop(FIRST, DOMAIN, source="route"),)
        names = ("a@one.example", "b@two.example", "c@one.example", "d@one.example")
        self.assertEqual(self.deliver(*names), {"delivered"})
        self.assertEqual(rcpts(peer), [["a", "c"], ["b"], ["d"]])

    def test_transactions(self) -> None:
        """MAILMAX: for the other recipients there is another connection to the same host."""
        peers = [ObligingPeer("PIPELINING", "LIMITS MAILMAX=1 RCPTMAX=1") for _ in range(3)]
        self.network.serve(FIRST, *peers)
        told = self.deliver(*(f"{name}@{DOMAIN}" for name in "abc"))
        self.assertEqual(told, {"delivered"})
        self.assertEqual([rcpts(peer) for peer in peers], [[["a"]], [["b"]], [["c"]]])
        self.assertNothingIsLeft()

    def test_delayed_ones_are_not_asked_again(self) -> None:
        """Only those for whom there was no transaction go on the next connection."""
        peers = [
            ObligingPeer("LIMITS MAILMAX=1 RCPTMAX=1", RCPT="451 4.7.1 Later"),
            ObligingPeer("LIMITS MAILMAX=1 RCPTMAX=1"),
        ]
        self.network.serve(FIRST, *peers)
        self.assertEqual(self.deliver(f"a@{DOMAIN}", f"b@{DOMAIN}"), {"delayed", "delivered"})
        self.assertEqual(rcpts(peers[1]), [["b"]])

    def test_the_next_connection_fails(self) -> None:
        """Those who are left wait for the next attempt; what was delivered is."""
        first, second = (
            ObligingPeer("LIMITS MAILMAX=1 RCPTMAX=1"),
            ObligingPeer(connect="421 4.3.2 No"),
        )
        self.network.serve(FIRST, first, second)
        self.assertEqual(self.deliver(f"a@{DOMAIN}", f"b@{DOMAIN}"), {"delayed", "delivered"})

    def test_so_few_that_it_takes_many_connections(self) -> None:
        """There is an end to them, and who has to wait is told why."""
        script = "LIMITS MAILMAX=1 RCPTMAX=1"
        self.network.serve(FIRST, *(ObligingPeer(script) for _ in range(MOST_TRIALS + 1)))
        addresses = [f"r{number}@{DOMAIN}" for number in range(MOST_TRIALS + 2)]
        result = self.attempt(queued_message(recipients=addresses))
        told = [words for words in self.told(result).values() if "delivered" not in words]
        self.assertEqual(len(result.trials), MOST_TRIALS)
        self.assertEqual(len(told), 2)
        for words in told:
            self.assertIn("delayed 451 4.5.3", words)
            self.assertIn("allows so few recipients", words)
        self.assertNothingIsLeft()
