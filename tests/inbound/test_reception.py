"""One transaction: who may send to whom, what the message gets on top, and whose it is then."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.interfaces import IStagedMessage, SpoolFull
from harakatls.mail.address import parse_address
from harakatls.spool.memory import MemorySpool
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict
from tests.hooks.plugins import Everything
from tests.inbound.support import (
    DATA,
    EHLO,
    END,
    ID,
    MAIL,
    MESSAGE,
    RCPT,
    SETTINGS,
    RefusingTLS,
    Talk,
    queued,
)


class Accepting(Everything):
    """Accepts recipients at a.example."""

    async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Verdict:
        await super().rcpt(connection, transaction, recipient)
        return ACCEPT if recipient.address.domain == "a.example" else CONTINUE


class FullSpool(MemorySpool):
    """Has no space from a certain moment on: at "stage", "write" or "commit"."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment = moment
        self.aborted = 0

    async def stage(self, message_id: str) -> IStagedMessage:
        if self.moment == "stage":
            raise SpoolFull("disk")
        staged: Any = await super().stage(message_id)
        abort = staged.abort

        async def full(*_: object) -> Any:
            raise SpoolFull("disk")

        async def counted() -> None:
            self.aborted += 1
            await abort()

        return FakeStaged(staged, {self.moment: full, "abort": counted})  # type: ignore[return-value]


class FakeStaged:
    """A staged message some of whose methods are others."""

    def __init__(self, staged: IStagedMessage, others: dict[str, Any]) -> None:
        self._staged = staged
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return self._others.get(name) or getattr(self._staged, name)


class TransactionTests(SynchronousTestCase):
    def test_message_is_queued(self) -> None:
        """The message of one transaction is in the queue with its envelope when 250 is said."""
        talk = Talk(Accepting())
        talk.until_data(RCPT, b"RCPT TO:<carol@a.example>\r\n")
        self.assertEqual(talk.say(MESSAGE, END), f"250 2.0.0 Message Queued ({ID}.1)\r\n")
        ((sender, recipients, octets),) = queued(talk.spool)
        self.assertEqual(sender, "alice@sender.example")
        self.assertEqual(recipients, ["bob@a.example", "carol@a.example"])
        self.assertTrue(octets.startswith(b"Received: from client.example ([192.0.2.10])\r\n"))
        self.assertTrue(octets.endswith(b"+0000\r\n" + MESSAGE))

    def test_without_received(self) -> None:
        """add_received=false leaves the message as it came."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, add_received=False))
        talk.until_data()
        talk.say(MESSAGE, END)
        self.assertEqual(queued(talk.spool)[0][2], MESSAGE)

    def test_several_messages(self) -> None:
        """Each message of a connection has an id of its own; no recipient is left over."""
        talk = Talk(Accepting())
        talk.until_data()
        talk.say(MESSAGE, END)
        self.assertEqual(talk.codes(MAIL, b"RCPT TO:<dave@a.example>\r\n", DATA)[-1], "354")
        self.assertEqual(talk.say(MESSAGE, END), f"250 2.0.0 Message Queued ({ID}.2)\r\n")
        self.assertEqual(
            [recipients for _, recipients, _ in queued(talk.spool)],
            [["bob@a.example"], ["dave@a.example"]],
        )

    def test_hooks_see_the_envelope_grow(self) -> None:
        """MAIL has no recipients; RCPT those accepted before; the others all."""
        plugin = Accepting()
        talk = Talk(plugin)
        talk.until_data(RCPT, b"RCPT TO:<carol@a.example>\r\n")
        talk.say(MESSAGE, END)
        counts = [
            (stage, len(arguments[1].envelope.recipients))
            for stage, arguments in plugin.asked
            if stage in ("mail", "rcpt", "data", "message", "queue")
        ]
        self.assertEqual(
            counts,
            [("mail", 0), ("rcpt", 0), ("rcpt", 1), ("data", 2), ("message", 2), ("queue", 2)],
        )

    def test_notes_of_a_transaction(self) -> None:
        """What a plugin notes at MAIL it finds at DATA, and not in the next transaction."""
        plugin = Accepting()
        talk = Talk(plugin)
        talk.say(EHLO, MAIL)
        plugin.asked[-1][1][1].notes["score"] = 5
        talk.say(RCPT, DATA)
        self.assertEqual(plugin.asked[-1][1][1].notes, {"score": 5})
        talk.say(MESSAGE, END, MAIL)
        self.assertEqual(plugin.asked[-1][1][1].notes, {})

    def test_no_open_relay(self) -> None:
        """A recipient that nobody accepts is refused (550 5.7.1)."""
        talk = Talk(Accepting())
        talk.say(EHLO, MAIL)
        self.assertEqual(
            talk.say(b"RCPT TO:<x@elsewhere.example>\r\n"),
            "550 5.7.1 I cannot deliver mail for <x@elsewhere.example>\r\n",
        )
        self.assertEqual(talk.codes(DATA), ["554"])

    def test_relaying(self) -> None:
        """Who may relay may send to anybody, unless a hook objects."""
        talk = Talk(Accepting(relaying=True))
        talk.say(EHLO, MAIL)
        self.assertEqual(
            talk.say(b"RCPT TO:<x@elsewhere.example>\r\n"),
            "250 2.1.5 recipient <x@elsewhere.example> OK\r\n",
        )
        talk = Talk(Everything(relaying=True, rcpt=Reject()))
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT), ["250", "250", "550"])

    def test_named_twice(self) -> None:
        """Who is named twice gets the message once."""
        talk = Talk(Accepting())
        talk.until_data(RCPT, RCPT)
        talk.say(MESSAGE, END)
        self.assertEqual(queued(talk.spool)[0][1], ["bob@a.example"])

    def test_reset(self) -> None:
        """RSET forgets sender and recipients."""
        talk = Talk(Accepting())
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT, b"RSET\r\n", DATA)[-2:], ["250", "503"])

    def test_submission_ports(self) -> None:
        """Without authentication nobody submits mail (RFC 4954 section 6: 530)."""
        for port, codes in [(465, ["530"]), (587, ["530"]), (25, ["250"]), (2465, ["250"])]:
            talk = Talk(Accepting(), port=port)
            talk.say(EHLO)
            self.assertEqual(talk.codes(MAIL), codes)
        talk = Talk(Accepting(relaying=True), port=587)
        talk.say(EHLO)
        self.assertEqual(talk.codes(MAIL), ["250"])


class RefusedMessageTests(SynchronousTestCase):
    def test_mail_loop(self) -> None:
        """A message that has been around too often is refused (550 5.4.6)."""
        talk = Talk(Accepting(), settings=evolve(SETTINGS, max_received=3))
        talk.until_data()
        self.assertEqual(talk.say(b"Received: x\r\n" * 3, MESSAGE, END)[:3], "250")
        talk.say(MAIL, RCPT, DATA)
        self.assertEqual(
            talk.say(b"Received: x\r\n" * 4, MESSAGE, END),
            "550 5.4.6 Too many received headers - possible mail loop\r\n",
        )
        self.assertEqual(len(queued(talk.spool)), 1)

    def test_too_big(self) -> None:
        """A message over the limit is refused at its end; no hook is asked, nothing is kept."""
        plugin = Accepting()
        talk = Talk(plugin, settings=evolve(SETTINGS, max_bytes=1000))
        talk.until_data()
        self.assertEqual(
            talk.say(MESSAGE, b"x" * 70 + b"\r\n", b"y\r\n" * 500, END)[:9], "552 5.3.4"
        )
        stages = plugin.stages
        self.assertEqual(stages[stages.index("data") + 1 :], ["too_large", "reset"])
        self.assertEqual(queued(talk.spool), [])
        self.assertEqual(talk.codes(MAIL), ["250"])

    def test_bare_line_ends(self) -> None:
        """A message with bare line feeds is refused: they are how mail is smuggled."""
        talk = Talk(Accepting())
        talk.until_data()
        self.assertEqual(talk.say(b"a\n.\nMAIL FROM:<x@y.example>\r\n", END)[0], "5")
        self.assertEqual(queued(talk.spool), [])

    def test_no_space(self) -> None:
        """A full disk is answered with 452 4.3.1, as soon as the peer listens."""
        spool = FullSpool("stage")
        talk = Talk(Accepting(), spool=spool)
        self.assertEqual(talk.codes(EHLO, MAIL, RCPT, DATA)[-1], "452")
        self.assertEqual(talk.codes(b"RSET\r\n", MAIL), ["250", "250"])
        for moment in ("write", "commit"):
            spool = FullSpool(moment)
            talk = Talk(Accepting(), spool=spool)
            talk.until_data()
            self.assertEqual(talk.say(MESSAGE, END)[:9], "452 4.3.1", moment)
            self.assertEqual((queued(spool), spool.aborted), ([], 1), moment)
            self.assertEqual(talk.codes(MAIL), ["250"])

    def test_no_space_for_what_a_hook_adds(self) -> None:
        """The same where it is a message hook that finds the disk full."""

        class Footer(Accepting):
            async def message(self, connection: Any, transaction: Any, message: Any) -> Any:
                raise SpoolFull("disk")

        talk = Talk(Footer())
        talk.until_data()
        self.assertEqual(talk.say(MESSAGE, END)[:9], "452 4.3.1")
        self.assertEqual(talk.codes(MAIL), ["250"])

    def test_mistake_while_writing(self) -> None:
        """Any other failure of the spool ends the connection with 421, and keeps nothing."""

        class Broken(FullSpool):
            async def stage(self, message_id: str) -> IStagedMessage:
                staged: Any = await super().stage(message_id)

                async def broken(chunk: bytes) -> None:
                    raise OSError("disk on fire")

                staged._others["write"] = broken
                return staged  # type: ignore[no-any-return]

        spool = Broken("")
        talk = Talk(Accepting(), spool=spool)
        talk.until_data()
        self.assertEqual(talk.say(MESSAGE), "421 4.3.0 Internal Server Error\r\n")
        talk.conversation.leave()
        self.assertEqual((talk.channel.closed, spool.aborted, talk.over), ("linger", 1, [None]))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class QueueTests(SynchronousTestCase):
    def test_taken_in_part(self) -> None:
        """What a plugin takes for some is queued for the others alone."""
        bob = frozenset({parse_address("bob@a.example")})
        talk = Talk(Accepting(queue=Accept(recipients=bob)))
        talk.until_data(RCPT, b"RCPT TO:<carol@a.example>\r\n")
        self.assertEqual(talk.say(MESSAGE, END)[:3], "250")
        self.assertEqual([r for _, r, _ in queued(talk.spool)], [["carol@a.example"]])

    def test_no_answer_before_the_commit(self) -> None:
        """250 is said when the message is safe, and not before."""
        committed: Deferred[Any] = Deferred()
        talk = Talk(Accepting(), last_queue=Everything(queue=committed))
        talk.until_data()
        self.assertEqual(talk.say(MESSAGE, END), "")
        talk.clock.advance(3600)
        self.assertEqual(talk.heard(), "")
        committed.callback(ACCEPT)
        self.assertEqual(talk.heard()[:3], "250")

    def test_message_hook_puts_fields_on_top(self) -> None:
        """A filter's fields stand above ours."""

        class Filter(Accepting):
            async def message(self, connection: Any, transaction: Any, message: Any) -> Verdict:
                message.prepend(b"X-Spam: no\r\n")
                return CONTINUE

        talk = Talk(Filter())
        talk.until_data()
        talk.say(MESSAGE, END)
        self.assertTrue(queued(talk.spool)[0][2].startswith(b"X-Spam: no\r\nReceived: from"))

    def test_staged_message_is_let_go(self) -> None:
        """After each message what was staged is dropped, whoever took it."""
        for verdict in (ACCEPT, CONTINUE, Reject(), TempFail()):
            spool = FullSpool("")
            talk = Talk(Accepting(queue=verdict), spool=spool)
            talk.until_data()
            talk.say(MESSAGE, END)
            self.assertEqual(spool.aborted, 1)


class LogTests(SynchronousTestCase):
    def test_one_line_for_each_message(self) -> None:
        """The log has id, sender, recipients, size, peer, TLS and outcome of each message."""
        talk = Talk(Accepting())
        talk.until_data(RCPT, b"RCPT TO:<carol@a.example>\r\n")
        with capturedLogs() as logged:
            talk.say(MESSAGE, END)
        (event,) = [e for e in logged if e.get("id") == f"{ID}.1"]
        self.assertEqual(
            event["log_format"].format(**event),
            f"{ID}.1 from <alice@sender.example> recipients=2 peer=192.0.2.10:49152 tls=no "
            f"octets={len(MESSAGE)}: 250 2.0.0 Message Queued ({ID}.1)",
        )

    def test_fields_of_the_line(self) -> None:
        """A log in JSON tells of each message how it came, under the names used elsewhere."""
        talk = Talk(Accepting(), tls=RefusingTLS(), implicit_tls=True)
        talk.secured()
        talk.until_data()
        with capturedLogs() as logged:
            talk.say(MESSAGE, END)
        (event,) = [e for e in logged if e.get("queue_id") == f"{ID}.1"]
        self.assertEqual(
            (event["tls"], event["cipher"], event["verified"]),
            ("TLSv1.3", "TLS_AES_256_GCM_SHA384", False),
        )

    def test_refused_messages_too(self) -> None:
        """A message that was refused is in the log with the reason."""
        talk = Talk(Accepting(message=Reject()))
        talk.until_data()
        with capturedLogs() as logged:
            talk.say(MESSAGE, END)
        (event,) = logged
        self.assertEqual(str(event["outcome"]), "550 5.7.1 Message denied")
