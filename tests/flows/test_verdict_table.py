"""
Each verdict of each hook, and each way to fail, against the table in docs/replies.rst.

Asked are the plugins of a whole conversation in memory, of which one has something to say.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from harakatls.hooks.stages import STAGES
from harakatls.smtp.reply import Reply
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Disconnect, Reject, TempFail
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    ID,
    MAIL,
    ME,
    MESSAGE,
    QUIT,
    RCPT,
    SETTINGS,
    RefusingTLS,
    Talk,
)

MANUAL = Path(__file__).parents[2] / "docs" / "replies.rst"
ROW = re.compile(
    r"^(\w+(?:, relaying)?) +([A-Z]\w+|whatever) +(\d{3} .*?) +(no|any|354|\dyz) +(\w+)$",
    re.MULTILINE,
)
OF_DELIVERY = {"route", "send", "bounce", "delay", "delivered", "delayed", "failed"}
# Facts are asked for, not verdicts.
OF_FACTS = {"peer_name", "mechanisms", "secret", "certificate"}
TIMEOUT = 7.0
SMALL = 20  # octets: less than MESSAGE has

VERDICTS: dict[str, Any] = {
    "Continue": CONTINUE,
    "Accept": ACCEPT,
    "Reject": Reject(),
    "TempFail": TempFail(),
    "Disconnect": Disconnect(),
}
KINDS: dict[str, Any] = {
    "Accept": Accept,
    "Reject": Reject,
    "TempFail": TempFail,
    "Disconnect": Disconnect,
}
NONSENSE: tuple[Any, ...] = (None, True, 550, "OK", (), object(), Accept, Reply.of(250, None, "x"))
NO_REPLY: tuple[Any, ...] = (550, "550 no", b"550 no", ("550",), object())
OWN = {
    "2yz": (Reply.of(251, "2.9.9", "my words"), Reply.of(250, "2.8.8", "two", "lines")),
    "354": (Reply.of(354, None, "my words"),),
    "4yz": (Reply.of(459, "4.9.9", "my words"), Reply.of(421, "4.9.9", "my last words")),
    "5yz": (Reply.of(559, "5.9.9", "my words"),),
}
OWN["any"] = OWN["4yz"] + OWN["5yz"]

# By stage: what is said before, and what it is that the hook has a say in.
SAID: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    "connect": ((), ()),
    "hello": ((), (EHLO,)),
    "capabilities": ((), (EHLO,)),
    "password": ((EHLO,), (b"AUTH PLAIN AGpvZQBndWVzcw==\r\n",)),
    "mail": ((EHLO,), (MAIL,)),
    "refused": ((EHLO,), (MAIL,)),
    "rcpt": ((EHLO, MAIL), (RCPT,)),
    "rcpt, relaying": ((EHLO, MAIL), (RCPT,)),
    "relaying": ((EHLO, MAIL), (RCPT,)),
    "accepted_rcpt": ((EHLO, MAIL), (RCPT,)),
    "data": ((EHLO, MAIL, RCPT), (DATA,)),
    "message": ((EHLO, MAIL, RCPT, DATA), (MESSAGE, END)),
    "too_large": ((EHLO, MAIL, RCPT, DATA), (MESSAGE, END)),
    "queue": ((EHLO, MAIL, RCPT, DATA), (MESSAGE, END)),
    "reset": ((EHLO, MAIL, RCPT, DATA), (MESSAGE, END)),
    "unrecognized": ((EHLO,), (b"XYZZY 1\r\n",)),
    "verify": ((EHLO,), (b"VRFY bob\r\n",)),
    "noop": ((EHLO,), (b"NOOP\r\n",)),
    "rset": ((EHLO,), (b"RSET\r\n",)),
    "quit": ((EHLO,), (QUIT,)),
    "disconnected": ((EHLO,), (QUIT,)),
}


class Row(NamedTuple):
    stage: str
    verdict: str
    reply: str
    own: str
    then: str

    @property
    def hook(self) -> str:
        return self.stage.partition(",")[0]

    @property
    def pattern(self) -> str:
        """What the reply is in the tests' conversations; ids may be those of a transaction."""
        address = "alice@sender.example" if "sender" in self.reply else "bob@a.example"
        filled = re.escape(self.reply)
        for name, value in {
            "address": re.escape(address),
            "id": f"{ID[:6]}[-.0-9A-F]*",
            "me": re.escape(ME),
            "peer": re.escape("192.0.2.10"),
            "verb": "EHLO",
            "harakatls ready": "",
        }.items():
            filled = filled.replace(re.escape(f"{{{name}}}"), value)
        return filled.replace(r"harakatls\ ready", r"harakatls\S*\ ready")


ROWS = [Row(*cells) for cells in ROW.findall(MANUAL.read_text("utf-8"))]


class Held(NamedTuple):
    """A conversation in which one hook was asked: the first line of the answer, and all of it."""

    talk: Talk
    first: str
    whole: str


def conversation(row: Row, answer: Any) -> Talk:
    answers = {"rcpt": ACCEPT, row.hook: answer}
    if row.stage == "refused":
        answers["mail"] = Reject()
    elif row.stage == "rcpt, relaying":
        answers["relaying"] = True
    elif row.stage == "relaying":
        answers["rcpt"] = CONTINUE
    login = row.stage == "password"
    if login:
        answers["mechanisms"] = ("PLAIN",)
    limit = SMALL if row.stage == "too_large" else SETTINGS.max_bytes
    talk = Talk(
        Everything(**answers),
        settings=evolve(SETTINGS, max_bytes=limit),
        timeouts=(TIMEOUT,),
        tls=RefusingTLS() if login else None,
        implicit_tls=login,
    )
    if login:
        talk.secured()
    return talk


def held(row: Row, answer: Any) -> Held:
    """The hook is asked, and gives *answer*."""
    talk = conversation(row, answer)
    before, about = SAID[row.stage]
    if about:
        if row.stage == "relaying" and isinstance(answer, Deferred):  # asked before the greeting
            talk.clock.advance(TIMEOUT + 1)
        if before:
            talk.say(*before)
        talk.heard()
        talk.conversation.received(b"".join(about))
    if isinstance(answer, Deferred):  # the hook hangs
        talk.clock.advance(TIMEOUT - 1)
        talk.clock.advance(2)
    elif row.stage == "password":
        talk.clock.advance(60)  # who guesses waits
    whole = talk.heard()
    line = whole.partition("\r\n")[0]
    return Held(talk, f"{line[:3]} {line[4:]}", whole)


def failures() -> Iterator[tuple[str, Any]]:
    """Each way to fail."""
    yield "raises", KeyError("x")
    yield "hangs", Deferred()
    for answer in NONSENSE:
        yield f"answers {answer!r}", answer


class VerdictTableTests(SynchronousTestCase):
    def test_it_is_whole(self) -> None:
        """Every hook of a session is in the table, with each verdict that it may give."""
        documented: dict[str, list[str]] = {}
        for row in ROWS:
            if row.stage == row.hook:
                documented.setdefault(row.hook, []).append(row.verdict)
        self.assertEqual(documented.keys(), {s for s, _ in STAGES} - OF_DELIVERY - OF_FACTS)
        for hook, verdicts in documented.items():
            self.assertIn(verdicts, (["whatever"], ["True", "whatever"], list(VERDICTS)), hook)
        self.assertEqual(SAID.keys(), {row.stage for row in ROWS})

    def test_verdicts(self) -> None:
        """Each verdict has its reply, and what follows is as documented."""
        for row in ROWS:
            for name, verdict in (*VERDICTS.items(), ("True", True)):
                if row.verdict in (name, "whatever") and not (
                    row.verdict == "whatever" and verdict is True
                ):
                    self.assert_row(row, held(row, verdict), name)

    def test_failures(self) -> None:
        """A hook that raises, hangs or answers nonsense says TempFail, if it has a say at all."""
        for row in ROWS:
            if row.verdict not in ("TempFail", "whatever"):
                continue
            for name, answer in failures():
                if row.stage == "relaying" and answer is True:
                    continue  # that is its yes
                self.assert_row(row, held(row, answer), name)
                self.flushLoggedErrors()

    def test_own_replies(self) -> None:
        """What a plugin says itself is said, where it may say something."""
        for row in ROWS:
            kind = KINDS.get(row.verdict)
            if kind is None:
                continue
            for reply in OWN[row.own] if row.own != "no" else OWN["2yz"] + OWN["any"]:
                found = held(row, kind(reply))
                if row.own == "no":
                    self.assert_row(row, found, f"{reply}")
                    continue
                words = reply.wire.decode()
                if row.stage == "queue" and reply.is_positive:
                    words = words[:-2] + f" ({ID}.1)\r\n"
                self.assertEqual(found.whole, words, row)
                closes = reply.code == 421 and row.stage != "connect"
                self.assert_then("closed" if closes else row.then, found, row)
        self.flushLoggedErrors()

    def test_replies_that_do_not_fit(self) -> None:
        """A yes that says no, a no that says yes, and what is no reply are not said."""
        for row in ROWS:
            kind = KINDS.get(row.verdict)
            if kind is None:
                continue
            fitting = OWN[row.own] if row.own != "no" else ()
            for reply in (*OWN["2yz"], *OWN["any"], *NO_REPLY):
                if reply not in fitting:
                    self.assert_row(row, held(row, kind(reply)), repr(reply))
        self.flushLoggedErrors()

    def assert_row(self, row: Row, found: Held, about: str) -> None:
        self.assertRegex(found.first, f"^{row.pattern}$", (row, about))
        self.assert_then(row.then, found, (row, about))

    def assert_then(self, then: str, found: Held, about: object) -> None:
        talk = found.talk
        if then == "closed":
            self.assertIn(talk.channel.closed, ("close", "linger"), about)
            self.assertEqual(talk.say(b"RSET\r\n"), "", about)
            return
        self.assertIsNone(talk.channel.closed, about)
        if then == "on":
            if found.first.startswith("354"):
                self.assertEqual(talk.codes(MESSAGE, END), ["250"], about)
            self.assertEqual(talk.codes(b"RSET\r\n"), ["250"], about)
        else:
            self.assertEqual(then, "QUIT")
            self.assertIn(talk.codes(b"RSET\r\n")[0][0], "45", about)
            self.assertEqual(talk.codes(QUIT), ["221"], about)
            self.assertEqual(talk.channel.closed, "close", about)


class ToolTests(SynchronousTestCase):
    def test_rows_are_found(self) -> None:
        """The pattern reads the table, cell by cell."""
        self.assertIn(
            Row("mail", "Reject", "550 5.7.1 sender <{address}> denied", "5yz", "on"), ROWS
        )
        lines = [x for x in MANUAL.read_text("utf-8").splitlines() if re.search(r"  \d{3} ", x)]
        self.assertEqual(len(ROWS), len(lines))
