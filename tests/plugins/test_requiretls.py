"""Back ends of plugins and mail with REQUIRETLS (RFC 8689)."""

from typing import Any

from attrs import evolve

from harakatls.connection import Transaction
from harakatls.mail.envelope import MailParameters
from harakatls.outbound.back_ends import BackEnds
from harakatls.outbound.routing import Routing
from harakatls.outbound.settings import OutboundSettings
from harakatls.plugins import smtp_bridge, smtp_forward, smtp_proxy
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import ObligingPeer
from harakatls.testing.values import FixedResolver
from harakatls.tls.requiretls import RequireTLS, RequireTLSPolicy
from harakatls.tls.settings import OutboundTLS
from harakatls.verdict import CONTINUE, Accept, Reject, TempFail, Verdict
from tests.plugins.back_ends import FIRST, SECOND, BackEndCase
from tests.plugins.support import ME, Message, connection_from, recipient, staged, transaction_for

INI = "host=back1.example\nport=2525\nenable_tls=true\n"
POOL = f"forwarding_host_pool={FIRST}:2525,{SECOND}:2525\nenable_tls=true\n"
ALL = ("STARTTLS", "REQUIRETLS", "8BITMIME")
NO_OPTION = ("STARTTLS", "8BITMIME")
TAGGED = MailParameters(requiretls=True)


def mails(peer: ObligingPeer) -> list[str]:
    return [c.partition(">")[2] for c in peer.commands if c.startswith("MAIL")]


class RequireTLSCase(BackEndCase):
    def enforce(self) -> None:
        """As ``requiretls=enforce`` in the plugins' sections has it."""
        strict = RequireTLSPolicy(RequireTLS.ENFORCE, RequireTLS.ENFORCE)
        tls = {name: OutboundTLS(section=name, requiretls=strict) for name in self.sections}
        settings = OutboundSettings(pool_timeout=5.0)
        resolver = FixedResolver({}, {"back1.example": [FIRST]})
        routing = Routing(self, resolver, settings, ME, is_ours=lambda address: False)
        self.back_ends = BackEnds(self.network.connect, routing, settings, ME, self.clock, tls)

    sections: tuple[str, ...] = ("smtp_forward", "smtp_proxy")

    async def route(self, domain: str, queued: object) -> None:
        return None

    def pretend(self, name: str) -> None:
        """TLS that needs no certificates."""
        pretended: Any = PretendedTLS()
        pretended.settings = self.back_ends._tls[name]
        self.back_ends._clients[name] = pretended

    def transaction(self, parameters: MailParameters = TAGGED) -> Transaction:
        plain = transaction_for("a@one.example")
        return evolve(plain, envelope=evolve(plain.envelope, parameters=parameters))

    def words(self, verdict: Verdict) -> str:
        assert isinstance(verdict, Accept | Reject | TempFail), verdict
        return f"{type(verdict).__name__} {verdict.reply}"


class ForwardTests(RequireTLSCase):
    def queue(self, ini: str = INI, parameters: MailParameters = TAGGED) -> str:
        self.plugin = smtp_forward.load(self.site(smtp_forward=ini))
        self.pretend("smtp_forward")
        return self.again(parameters)

    def again(self, parameters: MailParameters = TAGGED) -> str:
        asked = self.plugin.queue(
            connection_from(), self.transaction(parameters), staged(Message())
        )
        return self.words(self.ask(asked))

    def test_passed_on(self) -> None:
        """Over TLS, where it is offered; where not, our own back end gets the mail without."""
        for extensions, expected in (
            (ALL, " REQUIRETLS"),
            (NO_OPTION, ""),
            (("REQUIRETLS", "8BITMIME"), ""),
        ):
            self.setUp()
            peer = ObligingPeer(*extensions)
            self.serve(FIRST, peer)
            self.assertEqual(self.queue(), "Accept 250 2.0.0 Kept")
            self.assertEqual(mails(peer), [expected])

    def test_what_may_come_back(self) -> None:
        """The header alone, whether the back end knows REQUIRETLS or not."""
        full = MailParameters(ret="FULL", requiretls=True)
        for extensions in ((*ALL, "DSN"), (*NO_OPTION, "DSN")):
            self.setUp()
            peer = ObligingPeer(*extensions)
            self.serve(FIRST, peer)
            self.assertEqual(self.queue(parameters=full), "Accept 250 2.0.0 Kept")
            self.assertIn(" RET=HDRS", mails(peer)[0])

    def test_over_lmtp(self) -> None:
        """A mail store that offers REQUIRETLS is told of it, too."""
        peer = ObligingPeer(*ALL, LHLO="250-peer\n250-STARTTLS\n250 REQUIRETLS")
        self.serve(FIRST, peer)
        self.assertEqual(self.queue(f"{INI}using_lmtp=true\n"), "Accept 250 2.0.0 Kept")
        self.assertEqual(mails(peer), [" REQUIRETLS"])

    def test_enforced(self) -> None:
        """The client is told so, and not which host it is; it need not come back."""
        for extensions, told in (
            (
                NO_OPTION,
                "Reject 550 5.7.30 The mail server behind this one does not know REQUIRETLS",
            ),
            (("REQUIRETLS",), "Reject 550 5.7.30 The mail server behind"),
            (ALL, "Accept 250 2.0.0 Kept"),
        ):
            self.setUp()
            self.enforce()
            peer = ObligingPeer(*extensions)
            self.serve(FIRST, peer)
            self.assertIn(told, self.queue())
            self.assertEqual(mails(peer), [" REQUIRETLS"] if extensions is ALL else [])

    def test_of_a_pool(self) -> None:
        """One that has it takes it; one that has not is well for other mail; one is away."""
        self.enforce()
        first, second = ObligingPeer(*NO_OPTION), ObligingPeer(*ALL)
        self.serve(FIRST, first, *(ObligingPeer(*NO_OPTION) for _ in range(3)))
        self.serve(SECOND, second)
        self.assertEqual(self.queue(POOL), "Accept 250 2.0.0 Kept")
        self.assertEqual(mails(second), [" REQUIRETLS"])
        self.assertIn("Accept", self.again(MailParameters()))
        for there in (FIRST, SECOND):
            self.setUp()
            self.enforce()
            self.serve(there, ObligingPeer(*NO_OPTION))
            self.assertIn("TempFail 451 4.3.0", self.queue(POOL))

    def test_no_host_rests_for_it(self) -> None:
        """That a host lacks REQUIRETLS is no reason to ask it last for other mail."""
        self.enforce()
        self.serve(FIRST, *(ObligingPeer(*NO_OPTION) for _ in range(3)))
        self.assertIn("Reject 550 5.7.30", self.queue())
        (hop,) = self.plugin.pools[self.plugin.settings.usual].hosts()
        pool = self.plugin.pools[self.plugin.settings.usual]
        self.assertNotIn(hop, pool._failed)


class BridgeTests(RequireTLSCase):
    sections = ("smtp_bridge",)

    def test_enforced(self) -> None:
        """What the server never takes is refused for good, and what it cannot take now is not."""
        for there, told in (
            (True, "Reject 550 5.7.30 The mail server behind this one does not know REQUIRETLS"),
            (False, "TempFail 451 4.3.0"),
        ):
            self.setUp()
            self.enforce()
            plugin = smtp_bridge.load(self.site(smtp_bridge=INI))
            self.pretend("smtp_bridge")
            if there:
                self.serve(FIRST, ObligingPeer(*NO_OPTION, "AUTH PLAIN"))
            connection = connection_from().after_login("bob", "s3cret")
            asked = plugin.queue(connection, self.transaction(), staged(Message()))
            self.assertIn(told, self.words(self.ask(asked)))


class ProxyTests(RequireTLSCase):
    def setUp(self) -> None:
        super().setUp()
        self.connection = connection_from()
        self.number = 0

    def load(self, ini: str = INI) -> None:
        self.plugin = smtp_proxy.load(self.site(smtp_proxy=ini))
        self.pretend("smtp_proxy")

    def mail(self, parameters: MailParameters = TAGGED) -> Verdict:
        self.number += 1
        self.asked = evolve(self.transaction(parameters), id=f"C0FFEE.{self.number}")
        bare = evolve(self.asked, envelope=evolve(self.asked.envelope, recipients=()))
        return self.ask(self.plugin.mail(self.connection, bare))

    def test_passed_on(self) -> None:
        """Where it is offered over TLS."""
        for extensions, expected in (
            ((*ALL, "DSN"), " RET=HDRS REQUIRETLS"),
            ((*NO_OPTION, "DSN"), " RET=HDRS"),
        ):
            self.setUp()
            self.load()
            peer = ObligingPeer(*extensions)
            self.serve(FIRST, peer)
            self.assertEqual(self.mail(), CONTINUE)
            self.assertEqual(mails(peer), [expected])

    def test_enforced(self) -> None:
        """A back end that has not what it takes: the client hears no at MAIL, for good."""
        self.enforce()
        self.load()
        self.serve(FIRST, ObligingPeer(*NO_OPTION))
        self.assertIn("Reject 550 5.7.30 The mail server behind", self.words(self.mail()))

    def test_away(self) -> None:
        """A back end that is not there is no refusal."""
        self.enforce()
        self.load()
        self.assertIn("TempFail 451", self.words(self.mail()))

    def test_of_a_pool(self) -> None:
        """One that is away may know REQUIRETLS: the client comes back."""
        for there in (FIRST, SECOND):
            self.setUp()
            self.enforce()
            self.load(POOL)
            self.serve(there, ObligingPeer(*NO_OPTION))
            self.assertIn("TempFail 451", self.words(self.mail()))

    def test_another_message_of_the_client(self) -> None:
        """A connection that was made for other mail is left for a new one, and back."""
        self.enforce()
        self.load()
        peers = [ObligingPeer(*NO_OPTION), ObligingPeer(*ALL), ObligingPeer(*NO_OPTION)]
        self.serve(FIRST, *peers)
        for parameters in (MailParameters(), TAGGED, MailParameters()):
            self.assertEqual(self.mail(parameters), CONTINUE)
        self.assertEqual([len(mails(peer)) for peer in peers], [1, 1, 1])
        self.assertIn("REQUIRETLS", mails(peers[1])[0])

    def test_a_header_that_comes_later(self) -> None:
        """TLS-Required: No is known when the back end has the envelope: no new one is needed."""
        self.load()
        peer = ObligingPeer(*ALL)
        self.serve(FIRST, peer)
        self.assertEqual(self.mail(MailParameters()), CONTINUE)
        who = recipient("a@one.example")
        self.ask(self.plugin.accepted_rcpt(self.connection, self.asked, who))
        late = evolve(self.asked, envelope=evolve(self.asked.envelope, tls_optional=True))
        verdict = self.ask(self.plugin.queue(self.connection, late, staged(Message())))
        self.assertIn("Accept 250", self.words(verdict))
