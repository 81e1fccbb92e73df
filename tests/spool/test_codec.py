"""Queued messages as JSON."""

import json

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.address import Address, parse_address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient, TLSWish
from harakatls.queued import Attempt, QueuedMessage, Trial
from harakatls.smtp.reply import EnhancedStatus, Reply
from harakatls.spool.codec import FORMAT, UndecodableMessage, decode, encode

texts = st.text(max_size=20)
numbers = st.integers(0, 2**40)
times = st.floats(allow_nan=False, allow_infinity=False)
addresses = st.builds(Address, texts, texts)
recipients = st.builds(
    Recipient,
    addresses,
    st.none() | texts,
    st.frozensets(st.sampled_from(["NEVER", "SUCCESS", "FAILURE", "DELAY"])),
)
parameters = st.builds(
    MailParameters,
    st.none() | numbers,
    st.none() | texts,
    st.booleans(),
    st.none() | texts,
    st.none() | texts,
    st.booleans(),
)
envelopes = st.builds(
    Envelope,
    st.none() | addresses,
    st.lists(recipients, max_size=4).map(tuple),
    parameters,
    texts,
    st.booleans(),
)
statuses = st.builds(EnhancedStatus, st.integers(2, 5), st.integers(0, 999), st.integers(0, 999))
replies = st.builds(
    Reply,
    st.integers(200, 599),
    st.none() | statuses,
    st.lists(texts, min_size=1, max_size=3).map(tuple),
)
trials = st.builds(Trial, texts, texts, texts, st.lists(texts, max_size=3).map(tuple))
attempts = st.builds(Attempt, times, st.lists(trials, max_size=3).map(tuple))
messages = st.builds(
    QueuedMessage,
    texts,
    envelopes,
    texts,
    times,
    times,
    numbers,
    st.lists(recipients, max_size=4).map(tuple),
    st.integers(0, 1000),
    st.dictionaries(texts, replies, max_size=3),
    st.lists(attempts, max_size=3).map(tuple),
    st.booleans(),
)

TO = Recipient(parse_address("to@one.example"))
PLAIN = QueuedMessage(
    id="A.1.1",
    envelope=Envelope(parse_address("from@sender.example"), (TO,)),
    domain="one.example",
    arrived=1.5,
    due=2.5,
    size=7,
    pending=(TO,),
)


class CodecTests(SynchronousTestCase):
    """`encode` and `decode`."""

    @given(messages)
    def test_round_trip(self, queued: QueuedMessage) -> None:
        """Nothing that is known of a message is forgotten or changed by a restart."""
        text = encode(queued)
        self.assertEqual(decode(text), queued)
        self.assertEqual(decode(text.encode()), queued)
        self.assertTrue(text.isascii())
        self.assertNotIn("\n", text)

    def test_written_form(self) -> None:
        """What is in the queue can still be read by the next version."""
        self.assertEqual(
            json.loads(encode(PLAIN)),
            {
                "format": 1,
                "id": "A.1.1",
                "domain": "one.example",
                "arrived": 1.5,
                "due": 2.5,
                "size": 7,
                "from": ["from", "sender.example"],
                "to": [["to", "one.example"]],
            },
        )

    def test_what_is_said_once(self) -> None:
        """After a restart nobody is warned again; a row of an older version has no warning."""
        self.assertTrue(decode(encode(evolve(PLAIN, warned=True))).warned)
        self.assertNotIn("warned", encode(PLAIN))
        self.assertFalse(decode(encode(PLAIN)).warned)

    def test_tls_on_its_way(self) -> None:
        """What the sender wants of TLS counts after a restart (RFC 8689 section 4.1)."""
        tagged = evolve(PLAIN.envelope, parameters=MailParameters(requiretls=True))
        written = encode(evolve(PLAIN, envelope=tagged))
        self.assertEqual(json.loads(written)["parameters"], {"requiretls": True})
        self.assertIs(decode(written).envelope.tls_wish, TLSWish.REQUIRED)
        optional = evolve(PLAIN.envelope, tls_optional=True)
        written = encode(evolve(PLAIN, envelope=optional))
        self.assertTrue(json.loads(written)["tls_optional"])
        self.assertIs(decode(written).envelope.tls_wish, TLSWish.OPTIONAL)
        self.assertIs(decode(encode(PLAIN)).envelope.tls_wish, TLSWish.NONE)

    def test_whole_seconds(self) -> None:
        """A time that somebody wrote without a fraction is a time."""
        document = json.loads(encode(PLAIN)) | {"due": 3}
        self.assertEqual(decode(json.dumps(document)), evolve(PLAIN, due=3.0))

    def test_unknown_fields_are_passed_over(self) -> None:
        """A field that was added within a format does not break an older reader."""
        document = json.loads(encode(PLAIN)) | {"colour": "red"}
        self.assertEqual(decode(json.dumps(document)), PLAIN)

    def test_newer_format(self) -> None:
        """The operator reads that a newer version wrote it, not that it is damaged."""
        document = json.loads(encode(PLAIN)) | {"format": FORMAT + 1}
        error = self.assertRaises(UndecodableMessage, decode, json.dumps(document))
        self.assertEqual(str(error), "it is in format 2; this version of harakatls reads format 1")

    def test_wrong_types(self) -> None:
        """What looks like a message but is none is set aside, instead of failing later."""
        good = json.loads(encode(PLAIN))
        for name, value in [
            ("id", 5),
            ("id", None),
            ("domain", ["x"]),
            ("arrived", "yesterday"),
            ("due", None),
            ("due", True),
            ("size", 1.5),
            ("size", "7"),
            ("from", "from@sender.example"),
            ("from", [1, 2]),
            ("to", None),
            ("to", [["a"]]),
            ("to", [["a", "b", None, [1]]]),
            ("to", [[["a"], "b"]]),
            ("pending", 3),
            ("attempts", "many"),
            ("replies", []),
            ("replies", {"a": [250, None]}),
            ("replies", {"a": [250, None, "text"]}),
            ("replies", {"a": ["250", None, ["text"]]}),
            ("replies", {"a": [250, [2, 1], ["text"]]}),
            ("history", [[1.0]]),
            ("history", [[1.0, [["host", "result", "tls", "reasons"]]]]),
            ("history", [["x", []]]),
            ("warned", 1),
            ("removed", []),
            ("removed", {"a": "today"}),
            ("parameters", []),
            ("parameters", {"size": "x"}),
            ("parameters", {"smtputf8": 1}),
            ("parameters", {"body": 8}),
        ]:
            with self.subTest(name=name, value=value):
                self.assertRaises(UndecodableMessage, decode, json.dumps(good | {name: value}))
        for name in ("format", "id", "domain", "arrived", "due", "size", "from", "to"):
            less = {key: value for key, value in good.items() if key != name}
            self.assertRaises(UndecodableMessage, decode, json.dumps(less))

    @given(st.binary(max_size=60) | st.text(max_size=60))
    def test_garbage(self, text: str | bytes) -> None:
        """Whatever stands there, the answer is "not a message", never another error."""
        self.assertRaises(UndecodableMessage, decode, text)

    def test_more_garbage(self) -> None:
        """Neither nesting nor numbers without end do harm, and none of it gets into the log."""
        for text in ("[" * 100_000, "9" * 100_000, "null", "[]", "\ud800", '{"format":1}'):
            error = self.assertRaises(UndecodableMessage, decode, text)
            self.assertLess(len(str(error)), 100)
