"""BDAT, the server's side (RFC 3030)."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.chunks import ChunkDecoder, parse_chunk
from harakatls.smtp.data import ABSURD_MESSAGE
from harakatls.smtp.errors import LocalProtocolError, RemoteProtocolError
from harakatls.smtp.events import (
    BodyEnded,
    BodyReceived,
    ChunkEnded,
    ChunkReceived,
    MailReceived,
    NoopReceived,
)
from harakatls.smtp.offer import SessionLimits
from harakatls.smtp.refusals import (
    BARE_LINE_ENDS,
    BINARY_BY_DATA,
    ENDLESS_CHUNK,
    TLS_FIRST,
)
from harakatls.smtp.server import ServerSession
from harakatls.smtp.states import State
from tests.smtp.support import (
    NO,
    OFFERED,
    OK,
    Heard,
    accept,
    cut,
    heard,
    in_words,
    pieces_of,
    replies,
    session_in,
)

ENVELOPE = b"MAIL FROM:<joe@client.example>\r\nRCPT TO:<ann@mx.example>\r\n"
BINARY = ENVELOPE.replace(b"\r\nRCPT", b" BODY=BINARYMIME\r\nRCPT")
TEXT = b"Subject: x\r\n\r\n.\r\n..dots\r\n"
SMALL = SessionLimits(message=100, data_line=80)


def bdat(octets: bytes, last: bool = True) -> bytes:
    """The command and its chunk."""
    return b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if last else b"", octets)


def ready(limits: SessionLimits = SMALL) -> ServerSession:
    """After EHLO."""
    return session_in(State.READY, limits.capabilities, limits)


def text_of(events: list[Heard]) -> bytes:
    """Of all messages together."""
    return b"".join(event.chunk for event in events if isinstance(event, BodyReceived))


def endings(events: list[Heard]) -> list[str]:
    """What has an end: chunks, messages, refusals; each as one word."""
    found = []
    for event in events:
        if isinstance(event, RemoteProtocolError):
            found += replies([event])
        elif isinstance(event, ChunkReceived | ChunkEnded | BodyEnded) and event.refusal:
            found.append(f"{type(event).__name__} {event.refusal.code}")
        elif isinstance(event, ChunkEnded | BodyEnded):
            found.append(f"{type(event).__name__} {event.size}")
    return found


class ChunkTests(SynchronousTestCase):
    def test_one_chunk(self) -> None:
        """A message in one chunk is given out as it was sent; dots mean nothing in it."""
        session = ready()
        events = heard(session, ENVELOPE + bdat(TEXT))
        self.assertEqual(
            events[2:],
            [
                ChunkReceived(len(TEXT), last=True),
                BodyReceived(TEXT),
                BodyEnded(len(TEXT), None),
            ],
        )
        self.assertIs(session.state, State.READY)

    def test_several_chunks(self) -> None:
        """Chunks are cut anywhere; only the first one begins the message."""
        session = ready()
        events = heard(
            session,
            ENVELOPE + bdat(TEXT[:11], last=False) + b"bdat 0\r\n" + bdat(TEXT[11:], last=False),
            b"BDAT 0 LAST\r\n",
        )
        begun = [event.begins for event in events if isinstance(event, ChunkReceived)]
        self.assertEqual(begun, [True, False, False, False])
        rest = f"ChunkEnded {len(TEXT) - 11}"
        self.assertEqual(
            endings(events), ["ChunkEnded 11", "ChunkEnded 0", rest, f"BodyEnded {len(TEXT)}"]
        )
        self.assertEqual(text_of(events), TEXT)

    def test_empty_message(self) -> None:
        """BDAT 0 LAST alone is a message of nothing, as a lone dot is."""
        for said in (b"BDAT 0 LAST\r\n", b"DATA\r\n.\r\n"):
            self.assertEqual(endings(heard(ready(), ENVELOPE + said)), ["BodyEnded 0"])

    def test_each_waits_for_its_answer(self) -> None:
        """Pipelined chunks are told one by one, each when the one before it was answered."""
        session = ready()
        session.receive(ENVELOPE + bdat(b"abc", last=False) + bdat(b"de\r\n"))
        for _ in range(2):
            accept(session, session.next_event())
        self.assertEqual(session.next_event(), ChunkReceived(3, last=False))
        self.assertRaises(LocalProtocolError, session.reply, OK)
        session.accept_chunk()
        self.assertRaises(LocalProtocolError, session.accept_chunk)
        self.assertEqual(session.next_event(), BodyReceived(b"abc"))
        self.assertEqual(session.next_event(), ChunkEnded(3, None))
        session.reply(OK)
        self.assertEqual(session.next_event(), ChunkReceived(4, last=True, begins=False))

    def test_mixed_with_data(self) -> None:
        """A message comes by one of them (RFC 3030 section 2), the next maybe by the other."""
        session = ready()
        said = ENVELOPE + bdat(b"a\r\n", last=False) + b"DATA\r\n" + bdat(b"b\r\n")
        self.assertEqual(
            endings(heard(session, said)), ["ChunkEnded 3", "503 5.5.1", "BodyEnded 6"]
        )
        events = heard(session, ENVELOPE + b"DATA\r\nx\r\n.\r\n" + ENVELOPE + bdat(b"y\r\n"))
        self.assertEqual(endings(events), ["BodyEnded 3", "BodyEnded 3"])

    def test_reset_between(self) -> None:
        """RSET and EHLO drop what was there of the message."""
        for line in (b"RSET\r\n", b"EHLO client.example\r\n"):
            session = ready()
            heard(session, ENVELOPE + bdat(b"old\r\n", last=False) + line)
            self.assertIs(session.state, State.READY)
            self.assertEqual(text_of(heard(session, ENVELOPE + bdat(b"new\r\n"))), b"new\r\n")

    def test_many_small_chunks(self) -> None:
        """A message in a thousand chunks is the same message."""
        session = ready(SessionLimits())
        text = b"Subject: x\r\n\r\n" + b"12345678\r\n" * 99
        chunks = b"".join(bdat(text[i : i + 1], last=False) for i in range(len(text)))
        events = heard(session, ENVELOPE + chunks + b"BDAT 0 LAST\r\n")
        self.assertEqual(text_of(events), text)


class RefusedChunkTests(SynchronousTestCase):
    """The octets of a chunk follow at once; refused or not, they are no commands."""

    def test_out_of_order(self) -> None:
        """Without RCPT, without MAIL, without EHLO."""
        chunk = b"MAIL FROM:<evil@a.example>\r\n"
        for said, code in (
            (b"", "503 5.5.1"),
            (b"MAIL FROM:<>\r\n", "503 5.5.1"),
            (b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", "503 5.5.1"),
        ):
            for last in (True, False):
                session = ready()
                events = heard(session, said + bdat(chunk, last) + b"NOOP\r\n")
                self.assertEqual(endings(events), [code])
                self.assertEqual(events[-1], NoopReceived())

    def test_refused_recipients(self) -> None:
        """Who pipelines hears that nobody is left, and may not go on with the message."""
        session = ready()
        session.receive(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n" + bdat(b"xx", last=False))
        accept(session, session.next_event())
        session.next_event()
        session.reply(NO)
        events = heard(session, bdat(b"NOOP\r\n") + b"RCPT TO:<postmaster>\r\n")
        self.assertEqual(endings(events), ["554 5.5.1", "503 5.5.1", "503 5.5.1"])
        self.assertIs(session.state, State.CHUNK_REFUSED)
        self.assertEqual(
            endings(heard(session, b"RSET\r\n" + ENVELOPE + bdat(b""))), ["BodyEnded 0"]
        )

    def test_a_hook_says_no(self) -> None:
        """A message whose first chunk was refused does not go on with its second one."""
        session = ready()
        heard(session, ENVELOPE)
        session.receive(bdat(b"start of\r\n", last=False) + bdat(b"the message\r\n") + b"NOOP\r\n")
        self.assertIsInstance(session.next_event(), ChunkReceived)
        session.reply(NO)
        events = heard(session, b"")
        self.assertEqual(endings(events), ["503 5.5.1"])
        self.assertEqual(events[-1], NoopReceived())
        self.assertIs(session.state, State.CHUNK_REFUSED)

    def test_last_chunk_refused(self) -> None:
        """The message is over, as after DATA: the next may begin."""
        session = ready()
        heard(session, ENVELOPE)
        session.receive(bdat(b"RSET\r\n"))
        session.next_event()
        session.reply(NO)
        self.assertIs(session.state, State.READY)
        self.assertEqual(endings(heard(session, ENVELOPE + bdat(b"a\r\n"))), ["BodyEnded 3"])

    def test_last_twice(self) -> None:
        """Behind the last chunk there is no message for another one."""
        events = heard(ready(), ENVELOPE + bdat(b"a\r\n") + bdat(b"QUIT\r\n") + b"NOOP\r\n")
        self.assertEqual(endings(events), ["BodyEnded 3", "503 5.5.1"])
        self.assertEqual(events[-1], NoopReceived())

    def test_wrong_sizes(self) -> None:
        """Where nobody knows how many octets follow, nothing more is read."""
        for argument in (
            "",
            "LAST",
            "-1",
            "+1",
            "x",
            "1 2",
            "1 LASTLY",
            "1LAST",
            "0x10",
            "1.0",
            "1" * 21,
            "\u0661 LAST",
            "1 LAST LAST",
            "1 -1",
        ):
            self.assertIsNone(parse_chunk(argument), argument)
            session = ready()
            line = f"BDAT {argument}".rstrip().encode()
            events = heard(session, ENVELOPE + line + b"\r\nNOOP\r\n")
            problem = events[2]
            assert isinstance(problem, RemoteProtocolError)
            if argument.isascii():
                self.assertTrue(problem.fatal, argument)
                self.assertEqual(replies(events[2:]), ["501 5.5.4"])
                self.assertEqual(len(events), 3)
        self.assertEqual(parse_chunk("010  last"), (10, True))

    def test_too_large(self) -> None:
        """That is said before the chunk has come, and the chunk is read all the same."""
        session = ready()
        events = heard(session, ENVELOPE + bdat(b"x" * 60, last=False) + b"BDAT 41\r\n")
        self.assertEqual(endings(events), ["ChunkEnded 60", "ChunkReceived 552"])
        self.assertEqual(heard(session, b"x" * 40), [])
        self.assertEqual(heard(session, b"xNOOP\r\n"), [NoopReceived()])
        self.assertEqual(endings(heard(session, bdat(b"x"))), ["503 5.5.1"])
        just = heard(
            session, b"RSET\r\n" + ENVELOPE + bdat(b"x" * 49 + b"\r\n" + b"y" * 47 + b"\r\n")
        )
        self.assertEqual(endings(just), ["BodyEnded 100"])

    def test_absurd(self) -> None:
        """Who goes on and on behind a refused BDAT is cut off, and nothing of it is kept."""
        session = ready()
        heard(session, ENVELOPE + b"BDAT 99999999999999999999 LAST\r\n")
        piece = b"x" * 100
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(ABSURD_MESSAGE):
            self.assertEqual(heard(session, piece), [])
        self.assertLess(tracemalloc.get_traced_memory()[1], 20_000)
        (problem,) = heard(session, piece)
        assert isinstance(problem, RemoteProtocolError)
        self.assertIs(problem.reply, ENDLESS_CHUNK)
        self.assertTrue(problem.fatal)
        self.assertIs(session.state, State.CLOSED)

    def test_not_offered(self) -> None:
        """Where chunks are not taken, BDAT is out of order, and BINARYMIME unknown."""
        session = ready(SessionLimits(chunking=False))
        said = ENVELOPE + bdat(b"QUIT\r\n") + b"RSET\r\nMAIL FROM:<> BODY=BINARYMIME\r\n"
        self.assertEqual(endings(heard(session, said)), ["503 5.5.1", "555 5.5.4"])

    def test_before_tls(self) -> None:
        """What must come after STARTTLS is refused, with the chunk."""
        session = session_in(State.GREETED)
        session.tls_first = TLS_FIRST
        events = heard(session, bdat(b"QUIT\r\n") + b"NOOP\r\n")
        self.assertEqual(endings(events), ["530 5.7.0"])
        self.assertEqual(events[-1], NoopReceived())

    def test_no_mark_for_pipelining(self) -> None:
        """Chunks sent before the refusal of the first was read are no mistakes of the client."""
        session = ready(SessionLimits(errors=3))
        session.receive(ENVELOPE + bdat(b"x", last=False) * 9 + b"NOOP\r\n")
        for _ in range(2):
            accept(session, session.next_event())
        session.next_event()
        session.reply(NO)
        events = heard(session, b"")
        self.assertEqual(replies(events), ["503 5.5.1"] * 8)
        self.assertEqual(events[-1], NoopReceived())


class TextTests(SynchronousTestCase):
    def test_bare_line_ends(self) -> None:
        """A text has CRLF alone, as by DATA; that is said as soon as it is sure."""
        for octets in (b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\r", b"\n.\n"):
            events = heard(ready(), ENVELOPE + bdat(octets))
            self.assertEqual(endings(events), ["BodyEnded 550"], octets)
        session = ready()
        events = heard(session, ENVELOPE + bdat(b"a\nb", last=False) + bdat(b"c\r\n"))
        self.assertEqual(endings(events), ["ChunkEnded 550", "503 5.5.1"])
        ended = next(event for event in events if isinstance(event, ChunkEnded))
        self.assertIs(ended.refusal, BARE_LINE_ENDS)

    def test_cut_between_cr_and_lf(self) -> None:
        """A line end in two chunks is one."""
        events = heard(ready(), ENVELOPE + bdat(b"a\r", last=False) + bdat(b"\nb\r\n"))
        self.assertEqual(endings(events), ["ChunkEnded 2", "BodyEnded 6"])

    def test_last_line(self) -> None:
        """It is completed; by DATA there is no other."""
        for octets in (b"a", b"a\r\nb"):
            events = heard(ready(), ENVELOPE + bdat(octets))
            self.assertEqual(text_of(events), octets + b"\r\n")
            self.assertEqual(endings(events), [f"BodyEnded {len(octets) + 2}"])
        events = heard(ready(), ENVELOPE + bdat(b"x" * 79, False) + bdat(b"\r\n" + b"y" * 19))
        self.assertEqual(endings(events), ["ChunkEnded 79", "BodyEnded 552"])

    def test_long_lines(self) -> None:
        """They are folded, though cut into chunks."""
        session = ready(SessionLimits(data_line=10))
        events = heard(session, ENVELOPE + bdat(b"x" * 8, False) + bdat(b"y" * 8 + b"\r\n"))
        self.assertEqual(text_of(events), b"x" * 8 + b"yy\r\n " + b"y" * 6 + b"\r\n")

    @given(
        st.lists(st.sampled_from([b"a", b".", b"\r\n", b"x" * 9, b"\xc3\xa9"]), max_size=20),
        st.data(),
    )
    def test_as_by_data(self, words: list[bytes], data: st.DataObject) -> None:
        """The same message is the same text, by DATA and by BDAT."""
        text = b"".join(words) + b"\r\n"
        limits = SessionLimits(message=90, data_line=7)
        stuffed = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:]
        by_data = heard(ready(limits), ENVELOPE + b"DATA\r\n" + stuffed + b".\r\n")
        chunks = data.draw(cut(text))
        said = b"".join(bdat(chunk, last=False) for chunk in chunks) + b"BDAT 0 LAST\r\n"
        by_bdat = heard(ready(limits), *data.draw(cut(ENVELOPE + said)))
        if endings(by_data) == ["BodyEnded 552"]:
            self.assertTrue(any(ending.endswith(" 552") for ending in endings(by_bdat)))
        else:
            self.assertEqual(text_of(by_bdat), text_of(by_data))
            self.assertEqual(endings(by_bdat)[-1:], endings(by_data))


class BinaryTests(SynchronousTestCase):
    def test_as_it_is(self) -> None:
        """A BINARYMIME message is not touched: no line of it is folded or completed."""
        octets = b"Subject: x\r\n\r\n" + bytes(range(256)) * 8 + b"\n\r\x00no end"
        session = ready(SessionLimits(data_line=78))
        events = heard(session, BINARY + bdat(octets[:100], False) + bdat(octets[100:]))
        self.assertEqual(text_of(events), octets)
        assert isinstance(events[0], MailReceived)
        self.assertEqual(events[0].parameters.body, "BINARYMIME")
        self.assertEqual(endings(events)[-1], f"BodyEnded {len(octets)}")

    def test_header(self) -> None:
        """Its header is a text: other servers must see the same fields in it."""
        for octets in (
            b"Subject: x\nReceived: y\r\n\r\nz",
            b"\nSubject: x\r\n\r\n",
            b"Subject: x\r",
            b"no\nend of a header",
        ):
            events = heard(ready(), BINARY + bdat(octets))
            self.assertEqual(endings(events), ["BodyEnded 550"], octets)
        for octets in (b"\r\n\n\n", b"a: b\r\n\r\n\n", b"a: b\r\n"):
            events = heard(ready(), BINARY + bdat(octets))
            self.assertEqual(endings(events), [f"BodyEnded {len(octets)}"], octets)

    @given(
        st.binary(max_size=40), st.lists(st.sampled_from([b"\r\n", b"\n", b"a", b"\r"])), st.data()
    )
    def test_cut_anywhere(self, body: bytes, words: list[bytes], data: st.DataObject) -> None:
        """How it is cut changes nothing, neither what is given out nor what is found."""
        octets = b"".join(words) + body
        whole, pieces = ChunkDecoder(0, 0, True), ChunkDecoder(0, 0, True)
        self.assertEqual(whole.decode(octets), octets)
        self.assertEqual(b"".join(map(pieces.decode, data.draw(cut(octets)))), octets)
        whole.complete()
        pieces.complete()
        self.assertEqual(pieces.refusal, whole.refusal)
        header = octets if octets[:2] != b"\r\n" else b""
        header = header.partition(b"\r\n\r\n")[0] + b"\r\n" * (b"\r\n\r\n" in header)
        bare = header.replace(b"\r\n", b"")
        self.assertEqual(whole.refusal is not None, b"\r" in bare or b"\n" in bare)

    def test_not_by_data(self) -> None:
        """DATA has no way to say such octets; the next message may come by it."""
        session = ready()
        events = heard(session, BINARY + b"DATA\r\n")
        problem = events[-1]
        assert isinstance(problem, RemoteProtocolError)
        self.assertIs(problem.reply, BINARY_BY_DATA)
        events = heard(session, bdat(b"\r\n\n") + ENVELOPE + b"DATA\r\nx\r\n.\r\n")
        self.assertEqual(endings(events), ["BodyEnded 3", "BodyEnded 3"])


class PieceTests(SynchronousTestCase):
    @given(
        pieces_of(
            st.lists(
                st.sampled_from(
                    [
                        ENVELOPE,
                        BINARY,
                        bdat(b"RSET\r\n", last=False),
                        bdat(b"a\nb\r\n\r\n"),
                        bdat(b"x" * 90, last=False),
                        b"BDAT 0 LAST\r\n",
                        b"BDAT 7\r\n",
                        b"RSET\r\n",
                        b"DATA\r\n",
                        b"x\r\n.\r\n",
                    ]
                ),
                max_size=12,
            ).map(b"".join)
        )
    )
    def test_cut_anywhere(self, pieces: list[bytes]) -> None:
        """How the network cuts what a client says changes nothing."""
        one, many = ready(), ready()
        whole = heard(one, b"".join(pieces), offered=OFFERED)
        self.assertEqual(in_words(heard(many, *pieces, offered=OFFERED)), in_words(whole))
        self.assertIs(many.state, one.state)
