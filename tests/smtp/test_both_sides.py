"""A server and a client session, fed from each other."""

from collections.abc import Callable
from functools import partial

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.smtp.client import ClientSession
from harakatls.smtp.errors import RemoteProtocolError
from harakatls.smtp.events import (
    NEED_DATA,
    Answered,
    Asked,
    BodyEnded,
    BodyReceived,
    ChunkReceived,
    MailReceived,
    RcptReceived,
    ServerEvent,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.parameters import mail_parameters, rcpt_parameters
from harakatls.smtp.reply import Reply
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import NO, OFFERED, SEND_IT, WELCOME, accept, recipient

JOE = Address("joe", "client.example")
ANN = recipient("ann@mx.example")
BEN = recipient("ben@mx.example")


class Pair:
    """
    @ivar mail: what the server was given: envelope and text.
    @ivar heard: what the client was answered.
    """

    def __init__(self, limits: SessionLimits | None = None, width: int = 1 << 20) -> None:
        self.client = ClientSession()
        self.server = ServerSession(limits or SessionLimits())
        self.mail: list[tuple[Envelope, bytes]] = []
        self.heard: list[Answered] = []
        self.refuses: Callable[[ServerEvent], Reply | None] = lambda event: None
        self._width = width
        self._envelope = Envelope(None)
        self._text = b""
        self.hear(self.server.greet(WELCOME))

    def say(self, octets: bytes) -> None:
        """From client to server, and back what it answers."""
        for piece in self._cut(octets):
            self.server.receive(piece)
            while True:
                try:
                    event = self.server.next_event()
                except RemoteProtocolError as problem:
                    assert problem.reply is not None
                    self.hear(problem.reply.wire)
                    continue
                if event is NEED_DATA:
                    break
                self._serve(event)

    def hear(self, octets: bytes) -> None:
        """From server to client."""
        for piece in self._cut(octets):
            self.client.receive(piece)
            while isinstance(event := self.client.next_event(), Answered):
                self.heard.append(event)

    def _cut(self, octets: bytes) -> list[bytes]:
        return [octets[i : i + self._width] for i in range(0, len(octets), self._width)]

    def _serve(self, event: object) -> None:
        if isinstance(event, BodyReceived):
            self._text += event.chunk
            return
        assert isinstance(event, ServerEvent)
        refusal = self.refuses(event)
        if refusal is not None:
            self.hear(self.server.reply(refusal))
            return
        if isinstance(event, MailReceived):
            self._envelope = Envelope(event.reverse_path, (), event.parameters)
        elif isinstance(event, RcptReceived):
            recipients = (*self._envelope.recipients, event.recipient)
            self._envelope = evolve(self._envelope, recipients=recipients)
        elif isinstance(event, BodyEnded):
            self.mail.append((self._envelope, self._text))
            self._text = b""
        self.hear(accept(self.server, event))

    def last(self) -> tuple[Asked, int]:
        """What was answered last, and how."""
        return self.heard[-1].asked, self.heard[-1].reply.code

    def send(self, envelope: Envelope, text: bytes) -> None:
        """A whole transaction, in one group up to DATA."""
        client = self.client
        parameters = mail_parameters(envelope, len(text), client.capabilities)
        group = [client.mail(envelope.reverse_path, parameters)]
        group += [
            client.rcpt(r, rcpt_parameters(r, client.capabilities)) for r in envelope.recipients
        ]
        group.append(client.data())
        self.say(b"".join(group))
        self.say(client.body(text) + client.end_body())


def _refusing(kind: type, event: ServerEvent) -> Reply | None:
    return NO if isinstance(event, kind) else None


class PairTests(SynchronousTestCase):
    def test_whole_conversation(self) -> None:
        """A message goes over, through STARTTLS, and arrives as it was sent."""
        pair = Pair(width=1)
        client = pair.client
        pair.say(client.hello("client.example"))
        self.assertEqual(client.capabilities, OFFERED.without("REQUIRETLS"))
        pair.say(client.start_tls())
        self.assertEqual(pair.last(), (Asked.STARTTLS, 220))
        pair.server.tls_started()
        client.tls_started()
        pair.say(client.hello("client.example"))
        self.assertNotIn("STARTTLS", client.capabilities)
        utf8 = Recipient(Address("j\xf6rg", "mx.example"))
        told = evolve(
            ANN, original="rfc822;list@mx.example", notify=frozenset({"SUCCESS", "DELAY"})
        )
        parameters = MailParameters(body="8BITMIME", ret="FULL", envid="a+b c=d")
        envelope = Envelope(JOE, (told, utf8), parameters)
        text = "Subject: \xfc\r\n\r\n.\r\n..\r\nend".encode()
        pair.send(envelope, text)
        received, arrived = pair.mail[0]
        self.assertEqual(received.recipients, envelope.recipients)
        self.assertEqual(received.parameters, evolve(parameters, size=len(text), smtputf8=True))
        self.assertEqual(arrived, text + b"\r\n")
        pair.say(client.quit())
        self.assertEqual((client.state, pair.server.state), (State.CLOSED, State.CLOSED))

    def test_both_are_in_the_same_state(self) -> None:
        """Both sides agree on where they are after each step, refused or not."""
        pair = Pair()
        client, server = pair.client, pair.server
        no = False
        pair.refuses = lambda event: NO if no else None
        steps: tuple[Callable[[], bytes], ...] = (
            lambda: client.hello("client.example"),
            lambda: client.mail(JOE),
            lambda: client.rcpt(ANN),
            client.data,
            lambda: client.body(b"x\r\n") + client.end_body(),
            lambda: client.mail(JOE),
            client.reset,
            client.start_tls,
        )
        for step in steps:
            for no in (True, False):  # noqa: B007
                pair.say(step())
                self.assertIs(client.state, server.state)
                if client.state is State.READY and pair.last()[0] is Asked.BODY:
                    break

    def test_one_recipient_of_two(self) -> None:
        """A refused recipient does not keep the message from the others."""
        pair = Pair()
        pair.say(pair.client.hello("client.example"))
        pair.refuses = lambda event: NO if event == RcptReceived(ANN) else None
        pair.send(Envelope(JOE, (ANN, BEN)), b"x\r\n")
        self.assertEqual([e.recipients for e, _ in pair.mail], [(BEN,)])
        self.assertEqual(
            [(a.recipient, a.reply.code) for a in pair.heard if a.asked is Asked.RCPT],
            [(ANN, 550), (BEN, 250)],
        )

    def test_too_large(self) -> None:
        """A message over the limit is refused by its declared size, or at its end."""
        pair = Pair(SessionLimits(message=100))
        pair.say(pair.client.hello("client.example"))
        pair.say(pair.client.mail(JOE, " SIZE=101"))
        self.assertEqual(pair.last(), (Asked.MAIL, 552))
        pair.say(pair.client.mail(JOE) + pair.client.rcpt(ANN) + pair.client.data())
        pair.say(pair.client.body(b"0123456\r\n" * 50) + pair.client.end_body())
        self.assertEqual(pair.last(), (Asked.BODY, 552))
        self.assertIs(pair.client.state, State.READY)

    def send_chunk(self, pair: Pair, text: bytes, body: str = "") -> None:
        """MAIL, RCPT and all of the message in one flight."""
        client = pair.client
        envelope = client.mail(JOE, body) + client.rcpt(ANN)
        pair.say(envelope + client.bdat(len(text)) + client.body(text) + client.end_body())

    def test_one_chunk(self) -> None:
        """Our client and our server understand each other with BDAT, and in binary (RFC 3030)."""
        for width in (1, 1 << 20):
            pair = Pair(width=width)
            pair.say(pair.client.hello("client.example"))
            text = b"Subject: x\r\n\r\n.\r\n..\r\n"
            binary = b"Subject: x\r\n\r\n" + bytes(range(256)) + b"\n"
            self.send_chunk(pair, text)
            self.send_chunk(pair, binary, " BODY=BINARYMIME")
            self.assertEqual([arrived for _, arrived in pair.mail], [text, binary])
            self.assertEqual([e.parameters.body for e, _ in pair.mail], [None, "BINARYMIME"])
            self.assertEqual((pair.client.state, pair.server.state), (State.READY, State.READY))

    def test_refused_chunk(self) -> None:
        """Whatever was refused before it, a chunk is no command, and RSET brings both back."""
        for refused in (MailReceived, RcptReceived, ChunkReceived):
            pair = Pair()
            pair.say(pair.client.hello("client.example"))
            pair.refuses = partial(_refusing, refused)
            self.send_chunk(pair, b"QUIT\r\n")
            self.assertEqual(pair.last()[0], Asked.BODY)
            self.assertEqual(pair.mail, [])
            pair.say(pair.client.reset())
            self.assertEqual((pair.client.state, pair.server.state), (State.READY, State.READY))

    def test_lone_dot(self) -> None:
        """A server of ours never says 354 without recipients."""
        pair = Pair()
        pair.say(pair.client.hello("client.example"))
        pair.refuses = lambda event: NO if isinstance(event, RcptReceived) else None
        client = pair.client
        pair.say(client.mail(JOE) + client.rcpt(ANN) + client.data())
        self.assertEqual(pair.last(), (Asked.DATA, 554))
        self.assertNotEqual(pair.heard[-1].reply, SEND_IT)

    @given(
        st.lists(st.sampled_from([b"a", b".", b"\r\n", b"\r", b"\n", b"\xc3\xa9"]), max_size=30),
        st.integers(1, 9),
    )
    def test_any_message(self, parts: list[bytes], width: int) -> None:
        """Whatever a message holds, one message arrives, and the next is not disturbed by it."""
        pair = Pair(width=width)
        pair.say(pair.client.hello("client.example"))
        pair.send(Envelope(JOE, (ANN,)), b"".join(parts))
        pair.send(Envelope(None, (BEN,)), b"next")
        self.assertEqual([e.recipients for e, _ in pair.mail], [(ANN,), (BEN,)])
        self.assertEqual(pair.mail[1][1], b"next\r\n")
        self.assertEqual(pair.last(), (Asked.BODY, 250))
