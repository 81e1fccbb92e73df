"""Conversations passed on to a back end, step by step."""

from email import message_from_bytes
from typing import Any

from attrs import evolve
from zope.interface import implementer
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.connection import Transaction
from harakatls.hooks.chain import HookChain
from harakatls.hooks.stages import LoadedPlugin
from harakatls.interfaces import (
    IAcceptedRcptHook,
    IDisconnectHook,
    IMailHook,
    IQueueHook,
    IRcptHook,
)
from harakatls.mail.envelope import MailParameters
from harakatls.plugins.smtp_proxy import SMTPProxy, load
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer, ScriptedPeer
from harakatls.verdict import CONTINUE, Accept, Reject, TempFail, Verdict
from tests.plugins.back_ends import FIRST, SECOND, BackEndCase
from tests.plugins.support import Message, connection_from, recipient, staged, transaction_for

_TRANSACTION = ("MAIL", "RCPT", "DATA")
INI = "host=back1.example\nport=2525\n"


class ProxyCase(BackEndCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection = connection_from()
        self.number = 0

    def plugin(self, ini: str = INI) -> SMTPProxy:
        return load(self.site(smtp_proxy=ini))

    def transaction(self, *recipients: str, **how: Any) -> Transaction:
        self.number += 1
        return evolve(transaction_for(*recipients, **how), id=f"C0FFEE.{self.number}")

    def mail(self, plugin: SMTPProxy, transaction: Transaction) -> Verdict:
        bare = evolve(transaction, envelope=evolve(transaction.envelope, recipients=()))
        return self.ask(plugin.mail(self.connection, bare))

    def rcpt(self, plugin: SMTPProxy, transaction: Transaction, address: str) -> Verdict:
        asked = plugin.accepted_rcpt(self.connection, transaction, recipient(address))
        return self.ask(asked)

    def queue(
        self, plugin: SMTPProxy, transaction: Transaction, message: Message | None = None
    ) -> Verdict:
        asked = plugin.queue(self.connection, transaction, staged(message or Message()))
        return self.ask(asked)

    def whole(self, plugin: SMTPProxy, *recipients: str) -> list[Verdict]:
        """MAIL, RCPT for each, and the message for those that were accepted."""
        transaction = self.transaction(*recipients)
        verdicts = [self.mail(plugin, transaction)]
        if verdicts[0] != CONTINUE:
            return verdicts
        verdicts += [self.rcpt(plugin, transaction, address) for address in recipients]
        accepted = [
            who
            for who, verdict in zip(transaction.envelope.recipients, verdicts[1:], strict=True)
            if isinstance(verdict, Accept)
        ]
        if accepted:
            part = evolve(transaction.envelope, recipients=tuple(accepted))
            verdicts.append(self.queue(plugin, evolve(transaction, envelope=part)))
        return verdicts

    def words(self, verdict: Verdict) -> str:
        assert isinstance(verdict, Accept | Reject | TempFail), verdict
        return f"{type(verdict).__name__} {verdict.reply}"


class ConversationTests(ProxyCase):
    def test_as_many_messages_as_it_allows(self) -> None:
        """What the back end says of its connections (LIMITS, RFC 9422) is kept to."""
        peers = ObligingPeer("LIMITS MAILMAX=2"), ObligingPeer("LIMITS MAILMAX=2")
        self.serve(FIRST, *peers)
        plugin = self.plugin()
        for _ in range(3):
            self.assertIsInstance(self.whole(plugin, "a@one.example")[-1], Accept)
        self.assertEqual([len(peer.messages) for peer in peers], [2, 1])
        self.assertEqual(peers[0].commands[-1], "QUIT")

    def test_interfaces(self) -> None:
        """The hook chain can ask it."""
        for interface in (IMailHook, IAcceptedRcptHook, IQueueHook, IDisconnectHook):
            verifyObject(interface, self.plugin())

    def test_each_answer_is_the_back_ends(self) -> None:
        """Recipients are refused and put off one by one; the message is for the others."""
        peer = ObligingPeer(
            RCPT=["250 2.1.5 Welcome", "550 5.1.1 No such user", "450 4.2.0 Greylisted"],
            end="250 2.0.0 Queued as 42",
        )
        self.serve(FIRST, peer)
        people = ("a@one.example", "b@one.example", "c@one.example")
        mail, *rcpt, end = self.whole(self.plugin(), *people)
        self.assertEqual(mail, CONTINUE)
        self.assertEqual(
            [self.words(verdict) for verdict in (*rcpt, end)],
            [
                "Accept 250 2.1.5 Welcome",
                "Reject 550 5.1.1 No such user",
                "TempFail 450 4.2.0 Greylisted",
                "Accept 250 2.0.0 Queued as 42",
            ],
        )
        self.assertEqual(peer.messages, [Message().content])

    def test_a_refused_sender(self) -> None:
        """Told at MAIL."""
        self.serve(FIRST, ObligingPeer(MAIL="550 5.7.1 Not you"))
        self.assertEqual(
            [self.words(verdict) for verdict in self.whole(self.plugin(), "a@one.example")],
            ["Reject 550 5.7.1 Not you"],
        )

    def test_a_refused_message(self) -> None:
        """At DATA or behind the message: never a yes before the back end's."""
        table: tuple[tuple[dict[str, Any], str], ...] = (
            ({"DATA": "554 5.7.1 No"}, "Reject 554 5.7.1 No"),
            ({"DATA": "451 4.3.0 Later"}, "TempFail 451 4.3.0 Later"),
            ({"end": "554 5.6.0 Virus"}, "Reject 554 5.6.0 Virus"),
            ({"end": "421 4.3.2 Closing"}, "TempFail 451 4.3.2 Closing"),
        )
        for answers, told in table:
            self.setUp()
            self.serve(FIRST, ObligingPeer(**answers))
            self.assertEqual(self.words(self.whole(self.plugin(), "a@one.example")[-1]), told)

    def test_gone(self) -> None:
        """At any step: the client is told to come back, and keeps its connection to us."""
        gone: tuple[ScriptedPeer, ...] = (
            ObligingPeer(connect=HANG_UP),
            ObligingPeer(connect="421 4.3.2 Closing"),
            ObligingPeer(EHLO=BREAK_OFF),
            ObligingPeer(MAIL=HANG_UP),
            ObligingPeer(MAIL="421 4.3.2 Closing"),
            ObligingPeer(RCPT=BREAK_OFF),
            ObligingPeer(RCPT="421 4.3.2 Closing"),
            ObligingPeer(DATA=HANG_UP),
            ObligingPeer(DATA="220 what"),
            ObligingPeer(end=HANG_UP),
        )
        for peers in ((), *((peer,) for peer in gone)):
            self.setUp()
            self.serve(FIRST, *peers)
            plugin = self.plugin()
            last = self.whole(plugin, "a@one.example")[-1]
            assert isinstance(last, TempFail), last
            assert last.reply is not None
            self.assertEqual(last.reply.code, 451)
            # Whatever comes of this transaction, no other queue gets it.
            after = self.queue(plugin, self.transaction("a@one.example"))
            self.assertIsInstance(after, TempFail)

    def test_the_next_message(self) -> None:
        """On the same connection, behind RSET where the last transaction was given up."""
        peer = ObligingPeer()
        self.serve(FIRST, peer)
        plugin = self.plugin()
        self.whole(plugin, "a@one.example")
        given_up = self.transaction()
        self.mail(plugin, given_up)
        self.rcpt(plugin, given_up, "b@one.example")
        self.assertIsInstance(self.whole(plugin, "c@one.example")[-1], Accept)
        self.assertEqual((len(peer.messages), len(self.network.attempts)), (2, 1))
        verbs = [line.split(" ")[0] for line in peer.commands]
        self.assertEqual(verbs[1:], [*_TRANSACTION, "MAIL", "RCPT", "RSET", *_TRANSACTION])

    def test_a_connection_that_has_died_meanwhile(self) -> None:
        """The back end may not wait as long as the client does."""
        peer, another = ObligingPeer(), ObligingPeer()
        self.serve(FIRST, peer, another)
        plugin = self.plugin()
        self.whole(plugin, "a@one.example")
        peer.ending = HANG_UP
        self.network.flush()
        self.assertIsInstance(self.whole(plugin, "a@one.example")[-1], Accept)
        self.assertEqual((len(peer.messages), len(another.messages)), (1, 1))

    def test_disconnected(self) -> None:
        """The client goes, and so do we; nothing of an unfinished message is delivered."""
        peer = ObligingPeer()
        self.serve(FIRST, peer)
        plugin = self.plugin()
        self.mail(plugin, self.transaction())
        self.ask(plugin.disconnected(self.connection))
        self.assertEqual(peer.commands[-1], "QUIT")
        self.assertTrue(peer.gone)
        self.assertEqual(plugin._talks, {})

    def test_a_client_that_goes_in_the_middle(self) -> None:
        """The message that is being sent is cut, not ended."""
        self.serve(FIRST, ObligingPeer(end=SILENCE))
        plugin = self.plugin()
        transaction = self.transaction("a@one.example")
        self.mail(plugin, transaction)
        self.rcpt(plugin, transaction, "a@one.example")
        running = self.begin(plugin.queue(self.connection, transaction, staged(Message())))
        self.assertNoResult(running)
        running.cancel()
        self.failureResultOf(running)
        self.network.flush()
        self.assertEqual([t.connected for t in self.network.transports], [False])


class RecipientTests(ProxyCase):
    def test_the_same_twice(self) -> None:
        """Asked about once."""
        peer = ObligingPeer()
        self.serve(FIRST, peer)
        plugin = self.plugin()
        transaction = self.transaction()
        self.mail(plugin, transaction)
        for _ in range(2):
            verdict = self.rcpt(plugin, transaction, "a@one.example")
            self.assertIsInstance(verdict, Accept)
        self.assertEqual(sum("RCPT" in line for line in peer.commands), 1)

    def test_others_have_taken_some(self) -> None:
        """The back end delivers to those alone that are left."""
        peer = ObligingPeer()
        self.serve(FIRST, peer)
        plugin = self.plugin()
        transaction = self.transaction("b@one.example")
        self.mail(plugin, transaction)
        for address in ("a@one.example", "b@one.example"):
            self.rcpt(plugin, transaction, address)
        self.assertIsInstance(self.queue(plugin, transaction), Accept)
        last = len(peer.commands) - peer.commands[::-1].index("RSET")
        asked = [line for line in peer.commands[last:] if line.startswith("RCPT")]
        self.assertEqual(asked, ["RCPT TO:<b@one.example>"])

    def test_parameters(self) -> None:
        """What the client says of the message is passed on, as far as the back end knows it."""
        parameters = MailParameters(size=1000, body="8BITMIME", ret="HDRS", envid="x y")
        for extensions, said in (
            (("SIZE", "8BITMIME", "DSN"), " SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=x+20y"),
            (("PIPELINING",), ""),
        ):
            self.setUp()
            peer = ObligingPeer(*extensions)
            self.serve(FIRST, peer)
            transaction = self.transaction()
            envelope = evolve(transaction.envelope, parameters=parameters)
            self.mail(self.plugin(), evolve(transaction, envelope=envelope))
            self.assertEqual(peer.commands[1], f"MAIL FROM:<from@example.net>{said}")

    def test_binary(self) -> None:
        """A BINARYMIME message is passed on as text (RFC 3030 section 3)."""
        content = b"Content-Type: application/x\r\n\r\n\r\n\n\x00"
        peer = ObligingPeer("SIZE", "8BITMIME", "CHUNKING", "BINARYMIME")
        self.serve(FIRST, peer)
        transaction = self.transaction("a@one.example")
        parameters = MailParameters(size=len(content), body="BINARYMIME")
        envelope = evolve(transaction.envelope, parameters=parameters)
        transaction = evolve(transaction, envelope=envelope)
        plugin = self.plugin()
        self.mail(plugin, transaction)
        for who in envelope.recipients:
            self.rcpt(plugin, transaction, str(who.address))
        self.assertIsInstance(self.queue(plugin, transaction, Message(content)), Accept)
        self.assertEqual(peer.commands[1], "MAIL FROM:<from@example.net>")
        (arrived,) = peer.messages
        self.assertEqual(message_from_bytes(arrived).get_payload(decode=True), b"\r\n\n\x00")

    def test_smtputf8(self) -> None:
        """What the back end cannot take is refused by us (RFC 6531 section 3.2)."""
        self.serve(FIRST, ObligingPeer())
        transaction = self.transaction()
        envelope = evolve(transaction.envelope, parameters=MailParameters(smtputf8=True))
        verdict = self.mail(self.plugin(), evolve(transaction, envelope=envelope))
        self.assertIn("Reject 550 5.6.7", self.words(verdict))

    def test_behind_all_plugins(self) -> None:
        """Only recipients that are accepted here are asked about there, wherever it is listed."""

        @implementer(IRcptHook)
        class Ours:
            async def rcpt(self, connection: Any, transaction: Any, who: Any) -> Verdict:
                return Accept() if who.address.local_part == "a" else Reject()

        peer = ObligingPeer(RCPT="550 5.1.1 No such user")
        self.serve(FIRST, peer)
        plugin = self.plugin()
        chain = HookChain([LoadedPlugin("ours", Ours()), LoadedPlugin("p", plugin)], self.clock)
        transaction = self.transaction()
        self.ask(chain.mail(self.connection, transaction))
        for address, told in (("a@one.example", "5.1.1"), ("b@one.example", "None")):
            verdict = self.ask(chain.rcpt(self.connection, transaction, recipient(address)))
            self.assertIn(told, self.words(verdict))
        self.assertEqual(sum("RCPT" in line for line in peer.commands), 1)


class SettingsTests(ProxyCase):
    def test_enable_outbound(self) -> None:
        """Off, mail of clients that may relay goes its own way."""
        plugin = self.plugin(f"{INI}enable_outbound=false\n")
        transaction = self.transaction("a@one.example", relaying=True)
        self.assertEqual(self.mail(plugin, transaction), CONTINUE)
        self.assertEqual(self.rcpt(plugin, transaction, "a@one.example"), CONTINUE)
        self.assertEqual(self.queue(plugin, transaction), CONTINUE)
        self.assertEqual(self.network.attempts, [])
        self.assertTrue(self.plugin().settings.enable_outbound)

    def test_a_pool(self) -> None:
        """The next host takes the conversation that the first one cannot."""
        peer = ObligingPeer()
        self.serve(SECOND, peer)
        plugin = self.plugin("forwarding_host_pool=back1.example:26 back2.example:27\n")
        self.assertIsInstance(self.whole(plugin, "a@one.example")[-1], Accept)
        self.assertEqual(len(peer.messages), 1)

    def test_lmtp(self) -> None:
        """One answer for a message cannot stand for those of many recipients."""
        problem = self.assertRaises(ConfigError, self.plugin, "using_lmtp=true\n")
        self.assertIn("smtp_proxy.ini using_lmtp: LMTP has an answer", str(problem))
