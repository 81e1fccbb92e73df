"""Messages handed on to a back end while the client waits."""

from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.interfaces import IMailHook, IQueueHook, IRcptHook, IRouteHook
from harakatls.mail.address import parse_address
from harakatls.mail.route import Credentials, NextHop
from harakatls.plugins.smtp_forward import SMTPForward, load
from harakatls.testing.peers import BREAK_OFF, HANG_UP, SILENCE, ObligingPeer
from harakatls.testing.values import queued_message
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict
from tests.plugins.back_ends import FIRST, SECOND, BackEndCase, gone
from tests.plugins.support import Message, connection_from, recipient, staged, transaction_for

INI = "host=back1.example\nport=2525\n"
TWO = f"{INI}[two.example]\nhost=back2.example\n"


class ForwardCase(BackEndCase):
    def plugin(self, ini: str = INI) -> SMTPForward:
        return load(self.site(smtp_forward=ini))

    def queue(
        self,
        plugin: SMTPForward,
        *recipients: str,
        relaying: bool = False,
        message: Message | None = None,
        **notes: Any,
    ) -> Verdict:
        transaction = transaction_for(*(recipients or ("a@one.example",)), relaying=relaying)
        transaction.notes.update({key.replace("_", "."): value for key, value in notes.items()})
        self.message = message or Message()
        return self.ask(plugin.queue(connection_from(), transaction, staged(self.message)))

    def words(self, verdict: Verdict) -> str:
        assert isinstance(verdict, Accept | Reject | TempFail), verdict
        return f"{type(verdict).__name__} {verdict.reply}"


class MessageTests(ForwardCase):
    def test_interfaces(self) -> None:
        """The hook chain can ask it."""
        for interface in (IMailHook, IRcptHook, IQueueHook, IRouteHook):
            verifyObject(interface, self.plugin())

    def test_taken(self) -> None:
        """The back end has it, and the client hears its words."""
        peer = ObligingPeer(end="250 2.0.0 Queued as 42")
        self.serve(FIRST, peer)
        verdict = self.queue(self.plugin(), "a@one.example", "b@other.example")
        self.assertEqual(self.words(verdict), "Accept 250 2.0.0 Queued as 42")
        self.assertEqual(peer.messages, [self.message.content])
        self.assertEqual(
            [line.split(" SIZE")[0] for line in peer.commands[1:5]],
            [
                "MAIL FROM:<from@example.net>",
                "RCPT TO:<a@one.example>",
                "RCPT TO:<b@other.example>",
                "DATA",
            ],
        )
        self.assertEqual(self.network.attempts, [(FIRST, 2525)])

    def test_refused(self) -> None:
        """At each step: 5yz is 550, anything else 450, with the back end's words."""
        for answers, told in (
            ({"MAIL": "553 5.1.8 Bad sender"}, "Reject 550 5.1.8 Bad sender"),
            ({"MAIL": "421 4.3.2 Closing"}, "TempFail 450 4.3.2 Closing"),
            ({"RCPT": "550 5.1.1 No such user"}, "Reject 550 5.1.1 No such user"),
            ({"RCPT": ["250 Ok", "451 4.2.1 Later"]}, "TempFail 450 4.2.1 Later"),
            ({"RCPT": ["550 5.1.1 No", "451 4.2.1 Later"]}, "TempFail 450 4.2.1 Later"),
            ({"DATA": "554 5.7.1 No"}, "Reject 550 5.7.1 No"),
            ({"end": "554 5.6.0 Virus"}, "Reject 550 5.6.0 Virus"),
            ({"end": "452 4.3.1 Full"}, "TempFail 450 4.3.1 Full"),
        ):
            peer = ObligingPeer(**answers)
            self.setUp()
            self.serve(FIRST, peer)
            verdict = self.queue(self.plugin(), "a@one.example", "b@one.example")
            self.assertEqual(self.words(verdict), told)
            self.assertEqual(self.message.committed, [])
            if "end" not in answers:
                self.assertEqual(peer.messages, [])

    def test_back_again(self) -> None:
        """A back end that was away is asked for the next message, however soon that comes."""
        plugin = self.plugin()
        self.assertIn("TempFail 451", self.words(self.queue(plugin)))
        self.serve(FIRST, ObligingPeer(end="250 2.0.0 Queued"))
        self.assertEqual(self.words(self.queue(plugin)), "Accept 250 2.0.0 Queued")

    def test_gone(self) -> None:
        """A back end that is not there, or goes at any step: the client keeps the message."""
        for peers in ((), *((peer,) for peer in (*gone(), ObligingPeer(end="babble")))):
            self.setUp()
            self.serve(FIRST, *peers)
            verdict = self.queue(self.plugin())
            assert isinstance(verdict, TempFail), verdict
            assert verdict.reply is not None
            self.assertEqual(verdict.reply.code, 451)
            self.assertEqual(self.message.committed, [])

    def test_slow(self) -> None:
        """Nobody waits for ever."""
        self.serve(FIRST, ObligingPeer(DATA=SILENCE))
        plugin = self.plugin(f"{INI}timeout=7\n")
        transaction = transaction_for("a@one.example")
        running = self.begin(plugin.queue(connection_from(), transaction, staged(Message())))
        self.assertNoResult(running)
        with capturedLogs() as events:
            self.clock.advance(7.1)
            self.network.flush()
        self.assertIn("TempFail 451 4.4.2", self.words(self.successResultOf(running)))
        self.assertIn("no answer within 7 seconds", str(formatEvent(events[-1])))

    def test_no_address(self) -> None:
        """A host that does not resolve: the client comes back, and the log says why."""
        with capturedLogs() as events:
            verdict = self.queue(self.plugin("host=nowhere.example\n"))
        self.assertIn("TempFail 451 4.3.0", self.words(verdict))
        self.assertIn("nowhere.example has no address", str(formatEvent(events[-1])))

    def test_other_mail(self) -> None:
        """Mail of clients that may relay, and mail that another queue is wanted for, goes on."""
        plugin = self.plugin()
        self.assertEqual(self.queue(plugin, relaying=True), CONTINUE)
        self.assertEqual(self.queue(plugin, queue_wants="lmtp"), CONTINUE)
        self.assertEqual(self.network.attempts, [])

    def test_enable_outbound(self) -> None:
        """For a domain, or for all; the domain's word counts."""
        ini = f"{INI}[two.example]\nenable_outbound=true\n"
        self.serve(FIRST, ObligingPeer())
        plugin = self.plugin(ini)
        self.assertEqual(self.queue(plugin, "a@one.example", relaying=True), CONTINUE)
        self.assertIsInstance(self.queue(plugin, "a@two.example", relaying=True), Accept)
        self.setUp()
        plugin = self.plugin(f"enable_outbound=true\n{INI}[two.example]\nenable_outbound=false\n")
        self.serve(FIRST, ObligingPeer())
        self.assertIsInstance(self.queue(plugin, "a@one.example", relaying=True), Accept)
        self.assertEqual(self.queue(plugin, "a@two.example", relaying=True), CONTINUE)

    def test_kept_connections(self) -> None:
        """The next message goes out on the same one; one that is dead costs no message."""
        first, second = ObligingPeer(), ObligingPeer()
        self.serve(FIRST, first, second)
        plugin = self.plugin()
        self.assertIsInstance(self.queue(plugin), Accept)
        self.assertIsInstance(self.queue(plugin), Accept)
        self.assertEqual((len(first.messages), len(self.network.attempts)), (2, 1))
        first._answers["MAIL"] = BREAK_OFF
        self.assertIsInstance(self.queue(plugin), Accept)
        self.assertEqual((len(first.messages), len(second.messages)), (2, 1))

    def test_a_kept_connection_that_is_enough(self) -> None:
        """A back end that leaves with 421 in place of the next message gets that on a new one."""
        first, second = ObligingPeer(), ObligingPeer()
        self.serve(FIRST, first, second)
        plugin = self.plugin()
        self.assertIsInstance(self.queue(plugin), Accept)
        first._answers["MAIL"] = "421 4.7.0 Too many messages in this connection"
        self.assertIsInstance(self.queue(plugin), Accept)
        self.assertEqual((len(first.messages), len(second.messages)), (1, 1))
        second._answers["MAIL"] = "451 4.7.1 Not now"
        self.assertIsInstance(self.queue(plugin), TempFail)


class SeveralTests(ForwardCase):
    """More than one back end, or transaction, for one message."""

    def test_two_back_ends(self) -> None:
        """Each gets its recipients."""
        one, two = ObligingPeer(), ObligingPeer()
        self.serve(FIRST, one)
        self.serve(SECOND, two)
        verdict = self.queue(self.plugin(TWO), "a@one.example", "b@two.example", "c@one.example")
        self.assertIsInstance(verdict, Accept)
        self.assertEqual(sum("RCPT" in line for line in one.commands), 2)
        self.assertIn("RCPT TO:<b@two.example>", two.commands)
        self.assertEqual(self.network.attempts, [(FIRST, 2525), (SECOND, 25)])

    def test_a_part_waits_and_another_plugin_has_the_rest(self) -> None:
        """What waits is for its back end; it is not among what other plugins are asked about."""
        self.serve(FIRST, ObligingPeer(end="250 2.0.0 ok\r\n450 4.2.2 full"))
        plugin = self.plugin(f"using_lmtp=true\n{INI}[other.example]\nqueue=maildir\n")
        verdict = self.queue(plugin, "a@one.example", "b@one.example", "c@other.example")
        taken = frozenset(map(parse_address, ("a@one.example", "b@one.example")))
        assert isinstance(verdict, Accept)
        self.assertEqual(verdict.recipients, taken)
        self.assertEqual(self.message.committed, [])
        [kept] = self.ask(self.spool.claim(self.clock.seconds(), 10))
        self.assertEqual(kept.envelope.route, "smtp_forward")
        self.assertEqual([str(who.address) for who in kept.pending], ["b@one.example"])
        body = self.spool.open_body(kept)
        self.assertEqual(self.ask(body.read(kept.size)), self.message.content)
        [hop] = self.ask(plugin.route("one.example", kept)) or ()
        self.assertEqual(hop.host, "back1.example")

    def test_the_second_is_gone(self) -> None:
        """What the first has taken is not sent twice: the rest waits here, for its back end."""
        self.serve(FIRST, ObligingPeer())
        plugin = self.plugin(TWO)
        self.assertIsInstance(self.queue(plugin, "a@one.example", "b@two.example"), Accept)
        (kept,) = self.message.committed
        self.assertEqual([str(r.address) for r in kept.recipients], ["b@two.example"])
        queued = evolve(queued_message(), envelope=kept)
        (hop,) = self.ask(plugin.route("two.example", queued)) or ()
        self.assertEqual((hop.host, hop.domain), ("back2.example", "two.example"))

    def test_the_first_is_gone(self) -> None:
        """Nobody has it: the client comes back, and the second is not asked."""
        self.serve(SECOND, ObligingPeer())
        verdict = self.queue(self.plugin(TWO), "a@one.example", "b@two.example")
        self.assertIsInstance(verdict, TempFail)
        self.assertEqual(self.network.attempts, [(FIRST, 2525)])

    def test_one_message_per_rcpt(self) -> None:
        """A transaction for each recipient, on one connection."""
        peer = ObligingPeer()
        self.serve(FIRST, peer)
        plugin = self.plugin(f"{INI}one_message_per_rcpt=true\n")
        self.assertIsInstance(self.queue(plugin, "a@one.example", "b@one.example"), Accept)
        self.assertEqual((len(peer.messages), len(self.network.attempts)), (2, 1))

    def test_one_of_them_is_refused(self) -> None:
        """Behind one that was taken, a refusal is ours to report: it goes by our queue."""
        self.serve(FIRST, ObligingPeer(RCPT=["250 Ok", "550 5.1.1 No such user"]))
        plugin = self.plugin(f"{INI}one_message_per_rcpt=true\n")
        self.assertIsInstance(self.queue(plugin, "a@one.example", "b@one.example"), Accept)
        (kept,) = self.message.committed
        self.assertEqual([str(r.address) for r in kept.recipients], ["b@one.example"])
        self.assertEqual(kept.route, "smtp_forward")

    def test_ten_thousand(self) -> None:
        """A hundred in each transaction."""
        peer = ObligingPeer("PIPELINING")
        again = [ObligingPeer("PIPELINING") for _ in range(3)]
        self.serve(FIRST, peer, *again)
        people = [f"u{number}@one.example" for number in range(10_000)]
        self.assertIsInstance(self.queue(self.plugin(), *people), Accept)
        served = [peer, *again]
        self.assertEqual(sum(len(each.messages) for each in served), 100)
        asked = [line for each in served for line in each.commands if line.startswith("RCPT")]
        self.assertEqual(len(set(asked)), 10_000)

    def test_a_pool(self) -> None:
        """The next host takes what the first one cannot."""
        peer = ObligingPeer()
        self.serve(SECOND, peer, ObligingPeer())
        plugin = self.plugin("forwarding_host_pool=back1.example:26, back2.example:27\n")
        for _ in range(2):
            self.assertIsInstance(self.queue(plugin), Accept)
        self.assertEqual(len(peer.messages), 2)
        self.assertLessEqual(self.network.attempts.count((FIRST, 26)), 1)

    def test_a_pool_is_not_asked_twice(self) -> None:
        """A host that breaks off behind the message may have it: no other one gets it."""
        for host in (FIRST, SECOND):
            self.serve(host, ObligingPeer(end=HANG_UP))
        plugin = self.plugin("forwarding_host_pool=back1.example:26, back2.example:27\n")
        self.assertIn("may arrive twice", self.words(self.queue(plugin)))
        self.assertEqual(len(self.network.attempts), 1)

    def test_lmtp(self) -> None:
        """Each recipient has its answer; who is refused behind another's yes is ours."""
        self.serve(FIRST, ObligingPeer(end="250 2.0.0 Ok\n452 4.2.2 Full"))
        plugin = self.plugin(f"{INI}using_lmtp=true\n")
        self.assertIsInstance(self.queue(plugin, "a@one.example", "b@one.example"), Accept)
        (kept,) = self.message.committed
        self.assertEqual([str(r.address) for r in kept.recipients], ["b@one.example"])


class SettingsTests(ForwardCase):
    def hop(self, ini: str, sender: str | None, address: str) -> NextHop:
        found = self.plugin(ini).settings.back_end_for(
            None if sender is None else parse_address(sender), parse_address(address)
        )
        return found.hops[0]

    def test_which_section(self) -> None:
        """That of the address, of its domain, or the main one; by recipient or by sender."""
        ini = "[one.example]\nhost=one\n[bob@one.example]\nhost=bob\n"
        for selector, sender, address, host in (
            ("rcpt_to", "x@y.example", "a@one.example", "one"),
            ("rcpt_to", "x@y.example", "bob@one.example", "bob"),
            ("rcpt_to", "bob@one.example", "x@y.example", "localhost"),
            ("mail_from", "bob@one.example", "x@y.example", "bob"),
            ("mail_from", "a@one.example", "x@y.example", "one"),
            ("mail_from", None, "a@one.example", "localhost"),
        ):
            found = self.hop(f"domain_selector={selector}\n{ini}", sender, address)
            self.assertEqual(found.host, host, (selector, sender, address))

    def test_layers(self) -> None:
        """A section takes what it does not say from the main one; another host no login."""
        ini = (
            "host=back1.example\nport=2525\nauth_user=bob\nauth_pass=s3cret\nbind_helo=us.example\n"
            "[same.example]\nenable_outbound=true\n[other.example]\nhost=back2.example\n"
            "[port.example]\nport=26\n[own.example]\nhost=h\nauth_user=ann\nauth_pass=pw\nauth_type=PLAIN\n"
        )
        same = self.hop(ini, None, "a@same.example")
        self.assertEqual((same.port, same.credentials), (2525, Credentials("bob", "s3cret")))
        other = self.hop(ini, None, "a@other.example")
        self.assertEqual((other.port, other.credentials), (25, None))
        self.assertEqual(other.bind_helo, "us.example")
        port = self.hop(ini, None, "a@port.example")
        self.assertEqual((port.host, port.port), ("back1.example", 26))
        self.assertEqual(port.credentials, Credentials("bob", "s3cret"))
        own = self.hop(ini, None, "a@own.example")
        self.assertEqual(own.credentials, Credentials("ann", "pw", "PLAIN"))

    def test_mistakes(self) -> None:
        """Each names its section and key, and never a password."""
        for ini, told in (
            ("host=a b\n", "smtp_forward.ini host: 'a b' is neither a host name nor an address"),
            ("port=0\n", "smtp_forward.ini port: '0' is not a whole number from 1 to 65535"),
            ("enable_tls=perhaps\n", "smtp_forward.ini enable_tls: 'perhaps' is neither true"),
            ("domain_selector=from\n", "'from' is not one of rcpt_to, mail_from"),
            ("forwarding_host_pool=a:x\n", "forwarding_host_pool: 'a:x' has no port from 1"),
            ("forwarding_host_pool=,\n", "0 is not a number of hosts from 1 to 64"),
            ("[not a domain]\nhost=h\n", "[not a domain]: is neither a domain nor an address"),
            ("[a.example]\nhost=h\n[A.example]\nhost=h\n", "same domain as another section"),
            ("[a.example]\nbind=lo\n", "[a.example] bind: 'lo' is not an IP address"),
            ("auth_user=bob\n", "auth_user: needs the other of auth_user and auth_pass"),
            ("auth_pass=s3cret\n", "auth_pass: needs the other"),
            ("auth_user=b\nauth_pass=s3cret\nauth_type=NTLM\n", "auth_type 'NTLM' is none of"),
            ("connect_timeout=soon\n", "connect_timeout: 'soon' is not a number of seconds"),
        ):
            problem = self.assertRaises(ConfigError, self.plugin, ini)
            self.assertIn(told, str(problem))
            self.assertNotIn("s3cret", str(problem))

    def test_unknown_keys(self) -> None:
        """A misspelt key is told, as is what has no effect."""
        site = self.site(smtp_forward="hosts=a\nmax_connections=5\n")
        load(site)
        told = "\n".join(site.config.warnings)
        self.assertIn("hosts: unknown key; did you mean host?", told)
        self.assertIn("max_connections: has no effect", told)


class EnvelopeTests(ForwardCase):
    """check_sender and check_recipient."""

    def test_check_sender(self) -> None:
        """Nobody but our own clients sends as one of our domains."""
        plugin = self.plugin(f"check_sender=true\n{TWO}")
        for sender, relaying, spoofed in (
            ("a@two.example", False, True),
            ("a@two.example", True, False),
            ("a@other.example", False, False),
            (None, False, False),
        ):
            transaction = transaction_for(sender=sender, relaying=relaying)
            verdict = self.ask(plugin.mail(connection_from(), transaction))
            self.assertEqual(isinstance(verdict, Reject), spoofed, sender)

    def test_check_sender_off(self) -> None:
        """It is off where nobody asks for it."""
        transaction = transaction_for(sender="a@two.example")
        self.assertEqual(self.ask(self.plugin(TWO).mail(connection_from(), transaction)), CONTINUE)

    def rcpt(self, plugin: SMTPForward, address: str, *earlier: str, **notes: Any) -> Verdict:
        transaction = transaction_for(*earlier, relaying=bool(notes))
        transaction.notes.update(notes)
        return self.ask(plugin.rcpt(connection_from(), transaction, recipient(address)))

    def test_check_recipient(self) -> None:
        """Domains with a section are ours; two destinations do not go into one transaction."""
        plugin = self.plugin(f"check_recipient=true\n{TWO}[three.example]\nhost=back2.example\n")
        self.assertEqual(self.rcpt(plugin, "a@two.example"), ACCEPT)
        self.assertEqual(self.rcpt(plugin, "a@two.example", "b@three.example"), ACCEPT)
        self.assertEqual(self.rcpt(plugin, "a@other.example"), CONTINUE)
        split = self.rcpt(plugin, "a@two.example", "b@one.example")
        self.assertEqual(self.words(split), "TempFail 450 4.3.0 Split transaction, retry soon")
        self.assertEqual(self.rcpt(plugin, "a@any.example", local_sender=True), ACCEPT)
        self.assertEqual(self.rcpt(self.plugin(TWO), "a@two.example"), CONTINUE)


class RouteTests(ForwardCase):
    def test_from_the_queue(self) -> None:
        """Mail for a domain with a section goes to its back end; other mail is left to others."""
        plugin = self.plugin(f"{TWO}[three.example]\nqueue=lmtp\n")
        for domain, hosts in (
            ("two.example", ["back2.example"]),
            ("one.example", None),
            ("three.example", None),
        ):
            queued = queued_message(recipients=(f"a@{domain}",))
            hops = self.ask(plugin.route(domain, queued))
            self.assertEqual(None if hops is None else [hop.host for hop in hops], hosts)

    def test_our_own_domains(self) -> None:
        """What our clients send to each other has no MX to go by: that would lead back here."""
        site = self.site(smtp_forward=INI)
        (site.config.path / "host_list").write_text("ours.example\n")
        plugin = load(evolve(site, config=ConfigDirectory(site.config.path)))
        for domain, host in (("ours.example", "back1.example"), ("other.example", None)):
            hops = self.ask(plugin.route(domain, queued_message(recipients=(f"a@{domain}",))))
            self.assertEqual(hops[0].host if hops else None, host)

    def test_what_others_have_taken(self) -> None:
        """A message that queue/lmtp has taken is not ours to route."""
        queued = queued_message(recipients=("a@two.example",))
        taken = evolve(queued, envelope=evolve(queued.envelope, route="lmtp"))
        self.assertIs(self.ask(self.plugin(TWO).route("two.example", taken)), None)
