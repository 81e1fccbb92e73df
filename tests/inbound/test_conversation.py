"""When things are said: batches, waiting, peers that leave, silence, and shutting down."""

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import IStagedMessage
from harakatls.spool.memory import MemorySpool
from harakatls.verdict import ACCEPT, CONTINUE, Reject
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    ID,
    MAIL,
    MESSAGE,
    PATIENT,
    QUIT,
    RCPT,
    SETTINGS,
    SUMMARY,
    RefusingTLS,
    Talk,
    queued,
)

STAGES = ["connect", "relaying", "hello", "capabilities", "mail", "rcpt", "data", "message"]
ALL = [EHLO, MAIL, RCPT, DATA, MESSAGE, END]


class BatchTests(SynchronousTestCase):
    def test_one_write_for_a_batch(self) -> None:
        """A client that pipelines gets the answers to what it sent at once in one piece."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.heard()
        for batch, answers in [
            (EHLO + MAIL + RCPT + RCPT + DATA, 5),
            (MESSAGE + END + MAIL + RCPT + DATA, 4),
            (MESSAGE + END + QUIT, 2),
        ]:
            talk.conversation.received(batch)
            (octets,) = talk.channel.written
            lines = [line for line in octets.splitlines() if line[3:4] == b" "]
            self.assertEqual(len(lines), answers)
            talk.channel.written.clear()

    def test_answers_do_not_wait_for_a_slow_hook(self) -> None:
        """What is answered already is sent before a hook is waited for."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(rcpt=looked_up))
        talk.heard()
        talk.conversation.received(EHLO + MAIL + RCPT + b"NOOP\r\n")
        self.assertEqual(len(talk.channel.written), 1)
        self.assertIn(b"sender", talk.channel.written[0])
        looked_up.callback(ACCEPT)
        self.assertEqual(len(talk.channel.written), 2)
        self.assertEqual(talk.channel.written[1].count(b"\r\n"), 2)

    def test_order_is_kept(self) -> None:
        """While a hook is waited for nothing else is answered, whatever comes."""
        looked_up: Deferred[Any] = Deferred()
        plugin = Everything(mail=looked_up, rcpt=ACCEPT)
        talk = Talk(plugin)
        talk.say(EHLO)
        self.assertEqual(talk.say(MAIL), "")
        self.assertEqual(talk.say(RCPT), "")
        self.assertEqual(talk.say(b"NOOP\r\n"), "")
        looked_up.callback(CONTINUE)
        answers = talk.heard().splitlines()
        self.assertEqual([line[:9] for line in answers], ["250 2.1.0", "250 2.1.5", "250 2.0.0"])

    def test_slow_hook_holds_up_nobody_else(self) -> None:
        """Another connection of the same chain is served meanwhile."""
        looked_up: Deferred[Any] = Deferred()
        plugin = Everything(mail=looked_up)
        slow, other = Talk(plugin), Talk(plugin)
        slow.say(EHLO, MAIL)
        plugin.answers["mail"] = ACCEPT
        self.assertEqual(other.codes(EHLO, MAIL), ["250", "250"])
        looked_up.callback(Reject())
        self.assertEqual(slow.heard()[:3], "550")

    @given(st.lists(st.integers(0, 400), max_size=8))
    def test_any_split(self, cuts: list[int]) -> None:
        """However the network cuts the octets up, the same is answered and queued."""
        octets = b"".join(
            [EHLO, MAIL, RCPT, DATA, MESSAGE, END, MAIL, RCPT, DATA, MESSAGE, END, QUIT]
        )
        edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.heard()
        for start, end in zip(edges, edges[1:]):  # noqa: B905, RUF007
            talk.conversation.received(octets[start:end])
        answers = talk.heard().splitlines()
        whole = Talk(Everything(rcpt=ACCEPT))
        self.assertEqual(answers, whole.say(octets).splitlines())
        self.assertEqual(queued(talk.spool), queued(whole.spool))
        self.assertEqual(talk.channel.closed, "close")


class BackpressureTests(SynchronousTestCase):
    def test_busy(self) -> None:
        """While a hook is waited for, a peer that goes on sending is not read for ever."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(mail=looked_up), settings=PATIENT)
        talk.say(EHLO, MAIL)
        talk.say(b"NOOP\r\n" * 10_000)
        self.assertFalse(talk.channel.paused)
        talk.say(b"NOOP\r\n" * 1000)
        self.assertTrue(talk.channel.paused)
        looked_up.callback(CONTINUE)
        while talk.channel.resting is not None:
            resting, talk.channel.resting = talk.channel.resting, None
            resting.callback(None)
        self.assertFalse(talk.channel.paused)
        self.assertEqual(talk.heard().count("250 "), 11_001)

    def test_spool_is_slow(self) -> None:
        """While the spool writes, the socket is not read; all octets arrive in order."""
        writes: list[Deferred[None]] = []

        class SlowSpool(MemorySpool):
            async def stage(self, message_id: str) -> IStagedMessage:
                staged: Any = await super().stage(message_id)
                return Slow(staged)  # type: ignore[return-value]

        class Slow:
            def __init__(self, staged: Any) -> None:
                self._staged = staged

            def __getattr__(self, name: str) -> Any:
                return getattr(self._staged, name)

            async def write(self, chunk: bytes) -> None:
                writes.append(Deferred())
                await writes[-1]
                await self._staged.write(chunk)

        talk = Talk(Everything(rcpt=ACCEPT), spool=SlowSpool())
        talk.until_data()
        body = b"".join(b"%07d\r\n" % number for number in range(40_000))
        for start in range(0, len(body), 50_000):
            talk.conversation.received(body[start : start + 50_000])
        self.assertTrue(talk.channel.paused)
        self.assertEqual(len(writes), 1)
        talk.conversation.received(END)
        for written in writes:  # grows meanwhile
            written.callback(None)
        self.assertFalse(talk.channel.paused)
        self.assertEqual(talk.heard()[:3], "250")
        self.assertTrue(queued(talk.spool)[0][2].endswith(b"\r\n" + body))


class LeavingTests(SynchronousTestCase):
    def test_while_a_hook_is_waited_for(self) -> None:
        """The hook of a peer that left is cancelled; nothing is queued; the end is told."""
        for stage in STAGES:
            cancelled: list[object] = []
            plugin = Everything(**{"rcpt": ACCEPT, stage: Deferred(cancelled.append)})
            talk = Talk(plugin)
            for octets in ALL:
                talk.conversation.received(octets)
            self.assertEqual(plugin.asked[-1][0], stage)
            talk.conversation.leave()
            self.assertEqual(len(cancelled), 1, stage)
            self.assertEqual(plugin.asked[-1][0], "disconnected", stage)
            self.assertEqual(queued(talk.spool), [], stage)
            self.assertEqual(talk.over, [None], stage)

    def test_hook_that_does_not_mind(self) -> None:
        """A hook that swallows its cancellation does not make a message of a peer that left."""
        waiting: Deferred[None] = Deferred()

        class Stubborn(Everything):
            async def message(self, connection: Any, transaction: Any, message: Any) -> Any:
                try:
                    await waiting
                except CancelledError:
                    pass
                return CONTINUE

        plugin = Stubborn(rcpt=ACCEPT)
        talk = Talk(plugin)
        talk.until_data()
        talk.say(MESSAGE, END)
        talk.conversation.leave()
        self.assertEqual((talk.over, queued(talk.spool)), ([None], []))
        self.assertNotIn("queue", plugin.stages)

    def test_between_commands(self) -> None:
        """At any other moment there is nothing to cancel; the end is told all the same."""
        for number in range(len(ALL) + 1):
            plugin = Everything(rcpt=ACCEPT)
            talk = Talk(plugin)
            for octets in ALL[:number]:
                talk.conversation.received(octets)
            talk.conversation.leave()
            self.assertEqual(plugin.asked[-1][0], "disconnected")
            self.assertEqual(talk.over, [None])
            self.assertEqual(len(queued(talk.spool)), int(number == len(ALL)))
            self.assertEqual(talk.clock.getDelayedCalls(), [])

    def test_while_the_message_is_committed(self) -> None:
        """A commit that has begun may end: a message twice is better than none."""
        cancelled: list[object] = []
        committed: Deferred[Any] = Deferred(cancelled.append)
        plugin = Everything(rcpt=ACCEPT)
        talk = Talk(plugin, last_queue=Everything(queue=committed))
        talk.until_data()
        talk.say(MESSAGE, END)
        talk.conversation.leave()
        self.assertEqual((cancelled, talk.over), ([], []))
        with capturedLogs() as logged:
            committed.callback(ACCEPT)
        self.assertEqual(talk.heard(), "")
        self.assertEqual(talk.over, [None])
        outcomes = [str(event["outcome"])[:3] for event in logged if event["id"] == f"{ID}.1"]
        self.assertEqual(outcomes, ["250"])
        self.assertEqual(plugin.asked[-1][0], "disconnected")

    def test_in_the_handshake(self) -> None:
        """A peer that leaves in the handshake is gone like any other."""
        plugin = Everything()
        talk = Talk(plugin, tls=RefusingTLS(), implicit_tls=True)
        talk.conversation.leave()
        self.assertEqual(talk.over, [None])
        self.assertEqual(plugin.stages, ["disconnected"])

    def test_while_resting(self) -> None:
        """A peer that floods us and leaves is gone."""
        talk = Talk()
        talk.conversation.received(b"NOOP\r\n" * 1000)
        talk.conversation.leave()
        self.assertEqual(talk.over, [None])

    def test_end_is_told_whatever_happens(self) -> None:
        """A spool that cannot even forget a message does not keep the end from being told."""

        class Broken(MemorySpool):
            async def stage(self, message_id: str) -> IStagedMessage:
                staged: Any = await super().stage(message_id)

                class Staged:
                    def __getattr__(self, name: str) -> Any:
                        return getattr(staged, name)

                    async def abort(self) -> None:
                        raise OSError("no")

                return Staged()  # type: ignore[return-value]

        plugin = Everything(rcpt=ACCEPT)
        talk = Talk(plugin, spool=Broken())
        talk.until_data()
        talk.conversation.leave()
        self.assertEqual(plugin.asked[-1][0], "disconnected")
        self.assertEqual(talk.over, [None])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_half_closed(self) -> None:
        """A client that sends all and shuts its side down gets its answers, and is closed."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO, MAIL, RCPT, DATA, MESSAGE, END)
        self.assertIsNone(talk.channel.closed)
        talk.conversation.input_ended()
        self.assertEqual(talk.channel.closed, "close")
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_half_closed_while_a_hook_is_waited_for(self) -> None:
        """Its answer is waited for, since the peer may still listen."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(mail=looked_up))
        talk.say(EHLO, MAIL)
        talk.conversation.input_ended()
        self.assertIsNone(talk.channel.closed)
        looked_up.callback(ACCEPT)
        self.assertEqual(talk.heard()[:3], "250")
        self.assertEqual(talk.channel.closed, "close")

    def test_half_closed_in_a_message(self) -> None:
        """A message without its end is none."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.until_data()
        talk.say(MESSAGE)
        talk.conversation.input_ended()
        talk.conversation.leave()
        self.assertEqual((talk.heard(), queued(talk.spool)), ("", []))


class SilenceTests(SynchronousTestCase):
    settings = evolve(SETTINGS, inactivity_timeout=300.0)

    def test_idle(self) -> None:
        """A peer that says nothing for inactivity_timeout is told (421 4.4.2) and closed."""
        talk = Talk(settings=self.settings)
        talk.heard()
        talk.clock.advance(299)
        self.assertEqual(talk.heard(), "")
        talk.clock.advance(1)
        self.assertEqual(talk.heard(), "421 4.4.2 timeout\r\n")
        self.assertEqual(talk.channel.closed, "linger")

    def test_every_command_counts(self) -> None:
        """The time begins anew with each command."""
        talk = Talk(settings=self.settings)
        talk.heard()
        for _ in range(5):
            talk.clock.advance(299)
            self.assertEqual(talk.codes(b"NOOP\r\n"), ["250"])
        talk.clock.advance(301)
        self.assertEqual(talk.heard()[:3], "421")

    def test_in_a_message(self) -> None:
        """A message that is never finished is given up, and nothing of it is kept."""
        talk = Talk(Everything(rcpt=ACCEPT), settings=self.settings)
        talk.until_data()
        talk.say(MESSAGE)
        talk.clock.advance(301)
        self.assertEqual(talk.heard()[:3], "421")
        self.assertEqual(talk.say(END), "")
        self.assertEqual(queued(talk.spool), [])

    def test_our_own_slowness(self) -> None:
        """The peer is not sent away for what we take our time for."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(mail=looked_up), settings=self.settings, timeouts=[0])
        talk.say(EHLO, MAIL)
        talk.clock.advance(100)
        talk.clock.advance(1000)
        looked_up.callback(ACCEPT)
        self.assertEqual(talk.heard()[:3], "250")
        talk.clock.advance(290)
        self.assertEqual(talk.heard(), "")
        talk.clock.advance(310)
        self.assertEqual(talk.heard()[:3], "421")

    def test_peer_that_does_not_take_our_answers(self) -> None:
        """A peer that floods us and reads nothing is cut off when its time is over."""
        talk = Talk(settings=self.settings)
        talk.conversation.received(b"NOOP\r\n" * 1000)
        talk.clock.advance(301)
        self.assertEqual(talk.channel.closed, "abort")

    def test_clock_that_is_set_back(self) -> None:
        """The wall clock is no reason to wait for ever, nor to hang up."""
        talk = Talk(settings=self.settings)
        talk.heard()
        talk.clock.rightNow -= 86400
        talk.say(b"NOOP\r\n")
        talk.clock.rightNow += 86400
        talk.clock.advance(301)
        self.assertEqual(talk.heard()[:3], "421")


class StoppingTests(SynchronousTestCase):
    stopped = "421 4.3.2 Server is shutting down, closing connection\r\n"

    def test_idle_peer(self) -> None:
        """A peer without a transaction is told at once (RFC 3463 X.3.2)."""
        talk = Talk()
        talk.say(EHLO)
        talk.conversation.stop()
        self.assertEqual((talk.heard(), talk.channel.closed), (self.stopped, "linger"))

    def test_transaction(self) -> None:
        """A transaction that has begun may be finished."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.say(EHLO, MAIL)
        talk.conversation.stop()
        self.assertEqual(talk.heard(), "")
        self.assertEqual(talk.codes(RCPT, DATA), ["250", "354"])
        self.assertEqual(talk.codes(MESSAGE, END), ["250", "421"])
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_no_further_transaction(self) -> None:
        """A peer that always pipelines its next message does not keep the server from ending."""
        talk = Talk(Everything(rcpt=ACCEPT))
        talk.until_data()
        talk.conversation.stop()
        self.assertEqual(talk.codes(MESSAGE, END, MAIL, RCPT, DATA), ["250", "421"])
        self.assertEqual(talk.channel.closed, "linger")

    def test_while_a_hook_is_waited_for(self) -> None:
        """The answer comes first."""
        looked_up: Deferred[Any] = Deferred()
        talk = Talk(Everything(hello=looked_up))
        talk.say(EHLO)
        talk.conversation.stop()
        self.assertEqual(talk.heard(), "")
        looked_up.callback(ACCEPT)
        self.assertEqual([line[:4] for line in talk.heard().splitlines()][-1], "421 ")


class MistakeTests(SynchronousTestCase):
    def test_mistake_of_ours(self) -> None:
        """The peer hears 421 4.3.0 and nothing of our inner life; the log has it all."""

        class Broken(MemorySpool):
            async def stage(self, message_id: str) -> IStagedMessage:
                raise ZeroDivisionError("secret")

        plugin = Everything(rcpt=ACCEPT)
        talk = Talk(plugin, spool=Broken())
        talk.say(EHLO, MAIL, RCPT)
        self.assertEqual(talk.say(DATA, b"NOOP\r\n"), "421 4.3.0 Internal Server Error\r\n")
        self.assertEqual(talk.channel.closed, "linger")
        (failure,) = self.flushLoggedErrors(ZeroDivisionError)
        self.assertIn("secret", str(failure.value))
        talk.conversation.leave()
        self.assertEqual(plugin.asked[-1][0], "disconnected")
        self.assertEqual(talk.over, [None])

    def test_mistake_after_waiting(self) -> None:
        """The same when it happens later."""

        class Broken(MemorySpool):
            def __init__(self) -> None:
                super().__init__()
                self.wait: Deferred[None] = Deferred()

            async def stage(self, message_id: str) -> IStagedMessage:
                await self.wait
                raise ZeroDivisionError

        spool = Broken()
        talk = Talk(Everything(rcpt=ACCEPT), spool=spool)
        talk.say(EHLO, MAIL, RCPT, DATA)
        spool.wait.callback(None)
        self.assertEqual(talk.heard()[:9], "421 4.3.0")
        self.assertEqual(talk.channel.closed, "linger")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LogTests(SynchronousTestCase):
    def line(self, talk: Talk) -> dict[str, Any]:
        with capturedLogs() as logged:
            talk.conversation.leave()
        (event,) = [e for e in logged if e["log_level"] == LogLevel.info]
        return event

    def test_one_line_for_each_connection(self) -> None:
        """At its end the log has who it was, its TLS, what it did, and how it ended."""
        talk = Talk(Everything(rcpt=ACCEPT), tls=RefusingTLS(), implicit_tls=True)
        talk.secured()
        said = [*ALL, MAIL, b"RCPT TO:<x>\r\n", b"XYZZY\r\n", QUIT]
        talk.say(said[0])
        talk.say(*said[1:])
        octets = b"".join(said)
        talk.clock.advance(2.5)
        event = self.line(talk)
        self.assertEqual(
            event["log_format"].format(**event),
            f"{ID} 192.0.2.10:49152 helo=client.example tls=TLSv1.3 "
            f"cipher={SUMMARY.cipher} verified=False messages=1/0/0 recipients=1/0/0 errors=2 "
            f"octets={len(octets)} seconds=2.500: quit",
        )

    def test_outcomes(self) -> None:
        """How a connection ended: the operator's first question."""

        def too_slow(talk: Talk) -> None:
            talk.clock.advance(301)

        def garbage(talk: Talk) -> None:
            talk.say(b"\x16\x03\x01\x00\x00\x00")

        for happens, plugin, outcome in [
            (lambda talk: None, Everything(), "the peer left"),
            (lambda talk: talk.say(QUIT), Everything(), "quit"),
            (lambda talk: talk.conversation.stop(), Everything(), "shutdown"),
            (lambda talk: talk.conversation.input_ended(), Everything(), "the peer ended"),
            (too_slow, Everything(), "timeout"),
            (
                garbage,
                Everything(),
                "protocol error: 501 5.5.2 SSL attempted over a non-SSL socket",
            ),
        ]:
            talk = Talk(plugin)
            happens(talk)
            self.assertEqual(self.line(talk)["outcome"], outcome)

    def test_without_hello(self) -> None:
        """A scanner that says nothing is one line too."""
        event = self.line(Talk())
        self.assertIn(
            "helo= tls=no cipher= verified=False messages=0/0/0",
            event["log_format"].format(**event),
        )
