"""One message and a server that says one odd thing: what becomes of it, for `test_reply_table`."""

from collections.abc import Callable, Iterable, Iterator
from email import message_from_bytes
from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from harakatls.interfaces import IRouteHook
from harakatls.mail.route import LMTP, SMTP, Credentials, NextHop
from harakatls.queued import QueuedMessage
from harakatls.testing.peers import SILENCE, Answer, ObligingPeer
from harakatls.testing.values import envelope
from tests.flows.test_spool_to_peer import FORCED, HOME, MX1, MX2, FlowTestCase

DOMAIN = "recipient.example"
NAMES = ("ann", "bob", "cid")
KEPT = "250 2.0.0 Kept"
LATER = 60.0  # seconds until the second attempt
PATIENCE = 700.0  # more than any time limit of one answer


class SullenPeer(ObligingPeer):
    """Once it has said nothing to something, it says nothing more."""

    _sullen = False

    def answer(self, command: str) -> Answer:
        """As `ObligingPeer.answer`."""
        answer = SILENCE if self._sullen else super().answer(command)
        self._sullen = self._sullen or answer is SILENCE
        return answer


@implementer(IRouteHook)
@frozen
class Hosts:
    """A plugin that sends all mail to these."""

    hops: tuple[NextHop, ...]

    async def route(self, domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        return self.hops if domain == DOMAIN else None


@frozen
class Place:
    """
    Where in a conversation the odd answer is given.

    @ivar said: makes of the answer the keywords for an `ObligingPeer`.
    @ivar extensions: what the server offers.
    @ivar kept: the connection was made for another message, and the host has another one to give.
    @ivar told: of which answers something else is told here than what they say.
    """

    said: Callable[[Answer], dict[str, Any]]
    extensions: tuple[str, ...] = ("8BITMIME", "SIZE")
    lmtp: bool = False
    forced: bool = False
    credentials: Credentials | None = None
    told: dict[Answer, str] = field(factory=dict)
    kept: bool = False
    settings: dict[str, Any] = field(factory=dict)

    def hops(self, addresses: Iterable[str]) -> tuple[NextHop, ...]:
        """A configured route to *addresses*; empty where the DNS is to be asked."""
        if not self.lmtp and self.credentials is None:
            return ()
        protocol = LMTP if self.lmtp else SMTP
        return tuple(
            NextHop(a, DOMAIN, source="route", protocol=protocol, credentials=self.credentials)
            for a in addresses
        )

    def peer(self, answer: Answer | None) -> SullenPeer:
        """@param answer: None for one that says yes to everything."""
        usual: dict[str, Any] = {"AUTH": "235 2.7.0 Welcome"}
        if self.lmtp:
            usual["end"] = "\n".join([KEPT] * len(NAMES))
        given = {} if answer is None else self.said(answer)
        return SullenPeer(*self.extensions, **{**usual, **given})


class ReplyTestCase(FlowTestCase):
    def tried(
        self,
        place: Place,
        answer: Answer,
        hosts: int = 1,
        intervals: tuple[float, ...] = (LATER, LATER),
    ) -> tuple[SullenPeer, ...]:
        """
        One attempt to deliver a message for ann, bob and cid, from the start.

        @param hosts: how many the domain has. The second says yes to everything.
        """
        self.setUp()
        peers = (place.peer(answer), place.peer(None))[:hosts]
        addresses = (MX1, MX2)[:hosts]
        for address, peer in zip(addresses, peers, strict=True):
            self.network.serve(address, peer)
        self.home = ObligingPeer()
        self.network.serve(HOME, self.home)
        exchangers: Any = self.resolver.exchangers
        exchangers[DOMAIN] = exchangers[DOMAIN][:hosts]
        hops = place.hops(addresses)
        self.start(
            *([Hosts(hops)] if hops else ()),
            tls_settings=FORCED if place.forced else None,
            **{"temp_fail_intervals": intervals, "received_header": None, **place.settings},
        )
        self.began = self.clock.seconds()
        if place.kept:
            self.network.serve(MX1, place.peer(None))
            self.accept(envelope(recipients=[f"dan@{DOMAIN}"]))
            self.diary.entries.clear()
        self.accept(envelope(recipients=[f"{name}@{DOMAIN}" for name in NAMES]))
        self.pass_time(0.0)
        if not self.diary.entries:
            self.pass_time(PATIENCE)
        return peers

    @property
    def waiting(self) -> QueuedMessage | None:
        """The message, where it is in the queue still."""
        rows = [row.queued for row in self.spool._rows.values() if row.queued.domain == DOMAIN]
        return rows[0] if rows else None

    def became(self) -> dict[str, str]:
        """Of each recipient by name: delivered, delayed or failed."""
        pairs = (entry.split(" ") for entry in self.diary.entries)
        return {
            address.partition("@")[0]: word for word, address in pairs if address.endswith(DOMAIN)
        }

    def report(self) -> dict[str, str]:
        """
        What the sender was told, by the name of the recipient: the fields of the status, and the
        text for people under "".
        """
        if not self.home.messages:
            return {}
        (report,) = self.home.messages
        parts: Any = message_from_bytes(report).get_payload()
        text, status, _ = parts
        told = {"": " ".join(text.get_payload(decode=True).decode().split())}
        for group in status.get_payload()[1:]:
            name = group["Final-Recipient"].partition("; ")[2].partition("@")[0]
            told[name] = " ".join(" ".join(f"{k}: {v}" for k, v in group.items()).split())
        return told


def in_the_clear(peer: ObligingPeer) -> Iterator[str]:
    """The verbs said outside of TLS."""
    return (said.line.split(" ")[0] for said in peer.said if not said.secured)
