"""A delivery whose connections are kept for a while."""

from typing import Any

from harakatls.outbound.delivery import Delivery, Result
from harakatls.queued import Delivered
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import queued_message
from tests.outbound.support import DOMAIN, FIRST, DeliveryTestCase

SECONDS = 5.0


class PoolTestCase(DeliveryTestCase):
    """Connections rest for five seconds."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example")]

    def keeping(self, **settings: Any) -> Delivery:
        """@param settings: fields of `OutboundSettings`."""
        return self.delivery(**{"pool_timeout": SECONDS, **settings})

    def send(self, delivery: Delivery, number: int = 1, **queued: Any) -> list[Result]:
        """So many messages, one after the other."""
        return [self.attempt(queued_message(**queued), delivery) for _ in range(number)]

    def deliver(self, delivery: Delivery, number: int = 1) -> None:
        """They have to arrive, each at its one trial."""
        for result in self.send(delivery, number):
            self.assertEqual([type(outcome) for outcome in result.outcomes], [Delivered])
            self.assertEqual(len(result.trials), 1)

    def peers(self, number: int, *extensions: str, **answers: Any) -> list[ObligingPeer]:
        """Each for one connection to the first host."""
        peers = [ObligingPeer(*(extensions or ("8BITMIME",)), **answers) for _ in range(number)]
        self.network.serve(FIRST, *peers)
        return peers

    def assert_done(self, delivery: Delivery) -> None:
        """When the server ends, nothing is left."""
        delivery.close()
        self.network.flush()
        self.assertNothingIsLeft()
