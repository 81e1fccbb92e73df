"""Deliveries of mail whose sender wants TLS all the way, or does not need it (RFC 8689)."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from harakatls.config.hosts import HostList
from harakatls.connection import TLSSummary
from harakatls.mail.envelope import MailParameters
from harakatls.mail.route import LMTP, NextHop
from harakatls.outbound.dsn import Reporter, report_envelope
from harakatls.outbound.misses import Miss, missed
from harakatls.outbound.notices import Action, Notice
from harakatls.outbound.original import Original
from harakatls.outbound.recorder import Recorder
from harakatls.queued import QueuedMessage
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import ObligingPeer, ScriptedPeer
from harakatls.testing.values import queued_message
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.requiretls import RequireTLS, RequireTLSPolicy
from harakatls.tls.settings import NoGoSettings, OutboundTLS
from tests.outbound.support import DOMAIN, FIRST, Bodies, DeliveryTestCase

ALL = ("STARTTLS", "REQUIRETLS", "8BITMIME", "DSN")
NO_OPTION = ("STARTTLS", "8BITMIME", "DSN")
NO_TLS = ("REQUIRETLS", "8BITMIME", "DSN")
MAIL = "MAIL FROM:<alice@sender.example>"


def policy(level: RequireTLS, **others: Any) -> OutboundTLS:
    """@param others: fields of `OutboundTLS`."""
    return OutboundTLS(requiretls=RequireTLSPolicy(level), **others)


def tagged(**changes: Any) -> QueuedMessage:
    """@param changes: fields of `QueuedMessage`."""
    plain = queued_message()
    parameters = MailParameters(ret="FULL", requiretls=True)
    return evolve(plain, envelope=evolve(plain.envelope, parameters=parameters), **changes)


def optional(**changes: Any) -> QueuedMessage:
    """Its header says TLS-Required: No."""
    plain = queued_message()
    return evolve(plain, envelope=evolve(plain.envelope, tls_optional=True), **changes)


def mails(peer: ScriptedPeer) -> list[str]:
    """What stands behind the path of each MAIL."""
    return [c.removeprefix(MAIL) for c in peer.commands if c.startswith("MAIL")]


class EnforcedTests(DeliveryTestCase):
    """TLS, a valid certificate, REQUIRETLS: or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example"), (20, "mx2.example")]

    def result(self, *peers: ScriptedPeer, **how: Any) -> str:
        """What became of the message, at mx1 and mx2."""
        self.serve(*peers)
        return self.only(self.attempt(how.pop("queued", tagged()), self.delivery(**how)))

    def test_delivered(self) -> None:
        """EHLO, STARTTLS, EHLO, and then the option, with which only the header may come back."""
        peer = ObligingPeer(*ALL)
        self.assertEqual(self.result(peer), "delivered 250 2.0.0 Kept")
        self.assertEqual(mails(peer), [" RET=HDRS REQUIRETLS"])
        self.assertTrue(all(s.secured for s in peer.said if s.line.startswith("MAIL")))
        (decision,) = self.tls.decisions
        self.assertEqual((decision.level, decision.authenticated), (SecurityLevel.VERIFY, True))

    def test_each_miss(self) -> None:
        """The host is left with QUIT, the next one asked; after the last, the mail is returned."""
        certificate = "certificate is for other.example, not mx2.example"
        for extensions, answers, failure, told in (
            (
                NO_TLS,
                {},
                None,
                "failed 550 5.7.30 REQUIRETLS needs TLS, but mx2.example does not offer STARTTLS",
            ),
            (
                ALL,
                {"STARTTLS": "454 4.7.0 Not now"},
                None,
                "failed 550 5.7.10 REQUIRETLS needs TLS, but mx2.example refused STARTTLS: "
                "454 4.7.0 Not now",
            ),
            (
                ALL,
                {"handshake": False},
                certificate,
                f"failed 550 5.7.10 REQUIRETLS needs TLS, but it failed with mx2.example: "
                f"{certificate}",
            ),
            (
                ALL,
                {"handshake": False},
                None,
                "delayed 451 4.7.5 REQUIRETLS needs TLS, but it failed with mx2.example: "
                "the peer does not speak TLS (wrong version number)",
            ),
            (
                NO_OPTION,
                {},
                None,
                "failed 550 5.7.30 REQUIRETLS is required, but mx2.example does not offer it",
            ),
        ):
            self.setUp()
            self.exchangers[DOMAIN] = [(10, "mx1.example"), (20, "mx2.example")]
            self.tls = PretendedTLS(failure=failure)
            peers = [ObligingPeer(*extensions, **answers) for _ in range(2)]
            self.assertEqual(self.result(*peers), told)
            for peer in peers:
                self.assertEqual(mails(peer), [])
                if "handshake" not in answers:
                    self.assertEqual(peer.commands[-1], "QUIT")
            self.assertNothingIsLeft()

    def test_the_next_host_will_do(self) -> None:
        """One that has all of it takes the message."""
        for first in (ObligingPeer(*NO_OPTION), ObligingPeer(*NO_TLS)):
            self.setUp()
            second = ObligingPeer(*ALL)
            self.assertEqual(self.result(first, second), "delivered 250 2.0.0 Kept")
            self.assertEqual(mails(second), [" RET=HDRS REQUIRETLS"])

    def test_a_host_that_may_have_it(self) -> None:
        """It could not be asked now, so it is too early to return the message."""
        self.assertIn("delayed 451 4.4.1", self.result(ObligingPeer(*NO_OPTION)))

    def test_a_certificate_that_slipped_through(self) -> None:
        """The outcome of the handshake is looked at as well."""
        summary = TLSSummary("TLSv1.3", "X", 256, verified=False, verify_error="self-signed")
        self.tls = PretendedTLS(summary)
        told = self.result(ObligingPeer(*ALL), ObligingPeer(*ALL))
        self.assertIn("failed 550 5.7.10", told)
        self.assertIn("self-signed", told)

    def test_never_in_the_clear(self) -> None:
        """Not at a later attempt, and not since TLS with the host has failed before."""
        nogo = NoGoSettings(enabled=True, expiry=1000.0)
        for level in (RequireTLS.STARTTLS, RequireTLS.ENFORCE):
            self.setUp()
            remembering = self.memory.remember_failure(FIRST, 1000.0)
            self.successResultOf(Deferred.fromCoroutine(remembering))
            peers = [ObligingPeer(*ALL, handshake=False), ObligingPeer(*ALL)]
            self.exchangers[DOMAIN] = [(10, "mx1.example")]
            self.network.serve(FIRST, *peers)
            delivery = self.delivery(policy(level), nogo)
            told = self.only(self.attempt(tagged(attempts=3), delivery))
            self.assertIn("delayed 451 4.7.5 REQUIRETLS needs TLS", told)
            self.assertEqual(len(self.network.attempts), 1)
            again = self.attempt(tagged(attempts=3), delivery)
            self.assertIn("delivered", self.only(again))
            self.assertEqual(mails(peers[1]), [" RET=HDRS REQUIRETLS"])

    def test_the_host_is_not_strained(self) -> None:
        """It is there and well, so other mail for it is not slowed down."""
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        self.serve(ObligingPeer(*NO_OPTION))
        self.assertIs(self.attempt(tagged(), self.delivery()).strained, False)
        self.assertIs(self.attempt(tagged(), self.delivery()).strained, True)  # nobody is there

    def test_by_the_other_address(self) -> None:
        """What is demanded is demanded there as well."""
        self.exchangers[DOMAIN] = [(10, "mx1.example")]
        self.hosts["mx1.example"] = ["2001:db8::1", FIRST]
        self.network.swallow("2001:db8::1")
        peer = ObligingPeer(*NO_OPTION)
        self.serve(peer)
        delivery = self.delivery()
        running = self.begin(tagged(), delivery)
        self.pass_time(2.5)
        told = self.only(self.successResultOf(running))
        self.assertNotIn("delivered", told)
        self.assertEqual(mails(peer), [])
        self.assertEqual(peer.commands[-1], "QUIT")

    def test_what_we_may_not_do(self) -> None:
        """Our own settings are in the way: no host is asked."""
        told = self.result(enable_tls=False)
        self.assertEqual(told, "failed 550 5.7.10 REQUIRETLS needs TLS, but enable_tls is off")
        strict = OutboundTLS(requiretls=RequireTLSPolicy(secure_mx=True))
        self.assertIn(
            "failed 550 5.7.10 REQUIRETLS needs a host that", self.result(tls_settings=strict)
        )
        self.assertEqual(self.network.attempts, [])

    def test_the_log(self) -> None:
        """Why it was decided so stands in the line of the host, and in the history."""
        self.serve(ObligingPeer(*NO_OPTION), ObligingPeer(*NO_OPTION))
        with capturedLogs() as logs:
            result = self.attempt(tagged(), self.delivery())
        lines = [event for event in logs if "tls_reasons" in event]
        self.assertEqual([event["outcome"] for event in lines], ["unusable", "bounced"])
        for event in lines:
            self.assertIn("(requiretls is enforce); the host was found", event["tls_reasons"])
            self.assertIn("550 5.7.30", event["response"])
            self.assertEqual(event["tls"], "TLSv1.3")
        self.assertIn("REQUIRETLS: TLS with", result.trials[-1].reasons[0])


class LevelTests(DeliveryTestCase):
    """What the other levels of tls.ini ask for."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example")]

    def test_table(self) -> None:
        """Each level against what the host offers: the parameters that it is told, or the end."""
        unverified = TLSSummary("TLSv1.3", "X", 256, verified=False, verify_error="self-signed")
        for level, extensions, expected in (
            ("STARTTLS", ALL, " RET=HDRS REQUIRETLS"),
            ("STARTTLS", NO_OPTION, " RET=HDRS"),
            ("STARTTLS", NO_TLS, "failed 550 5.7.30"),
            ("OPPORTUNISTIC", ALL, " RET=HDRS REQUIRETLS"),
            ("OPPORTUNISTIC", NO_OPTION, " RET=HDRS"),
            ("OPPORTUNISTIC", NO_TLS, " RET=HDRS"),
            ("DISABLE", ALL, " RET=HDRS"),
            ("DISABLE", NO_TLS, " RET=HDRS"),
        ):
            self.setUp()
            self.tls = PretendedTLS(unverified)
            peer = ObligingPeer(*extensions)
            self.serve(peer)
            told = self.only(self.attempt(tagged(), self.delivery(policy(RequireTLS[level]))))
            if expected.startswith("failed"):
                self.assertIn(expected, told)
                self.assertEqual(mails(peer), [])
            else:
                self.assertEqual((told[:9], mails(peer)), ("delivered", [expected]), level)

    def test_a_forced_host(self) -> None:
        """The operator's demand stands beside it, and decides what its misses mean."""
        forced = policy(RequireTLS.OPPORTUNISTIC, force_tls_hosts=HostList.parse([DOMAIN]))
        self.serve(ObligingPeer(*NO_TLS))
        told = self.only(self.attempt(tagged(), self.delivery(forced)))
        self.assertIn("delayed 451 4.7.4 TLS is required, but", told)

    def test_misses_by_level(self) -> None:
        """A certificate is REQUIRETLS's own matter only where that asks for one."""
        for level, miss, expected in (
            (None, Miss.CERTIFICATE, "451 4.7.5"),
            (RequireTLS.OPPORTUNISTIC, Miss.NO_STARTTLS, "451 4.7.4"),
            (RequireTLS.STARTTLS, Miss.NO_STARTTLS, "550 5.7.30"),
            (RequireTLS.STARTTLS, Miss.CERTIFICATE, "451 4.7.5"),
            (RequireTLS.STARTTLS, Miss.HANDSHAKE, "451 4.7.5"),
            (RequireTLS.ENFORCE, Miss.CERTIFICATE, "550 5.7.10"),
        ):
            decision = Decision(SecurityLevel.VERIFY, (), requiretls=level)
            self.assertEqual(str(missed(decision, miss, "so")), f"{expected} so")

    def test_lmtp(self) -> None:
        """A mail store is told of it where it knows it, over TLS."""
        store = NextHop(FIRST, DOMAIN, 24, source="route", protocol=LMTP)
        for extensions, expected in ((ALL, " RET=HDRS REQUIRETLS"), (NO_TLS, " RET=HDRS")):
            self.setUp()
            self.hops = (store,)
            peer = ObligingPeer(*extensions)
            self.serve(peer)
            self.assertIn("delivered", self.only(self.attempt(tagged(), self.delivery())))
            self.assertEqual(mails(peer), [expected])


class KeptTests(DeliveryTestCase):
    """Connections that were made for other mail."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example")]

    def test_none_of_another_kind(self) -> None:
        """A message with REQUIRETLS never goes out on a connection of one without, nor back."""
        peers = [ObligingPeer(*ALL) for _ in range(3)]
        self.network.serve(FIRST, *peers)
        delivery = self.delivery(policy(RequireTLS.OPPORTUNISTIC), pool_timeout=5.0)
        for queued in (queued_message(), tagged(), queued_message(), tagged()):
            self.assertIn("delivered", self.only(self.attempt(queued, delivery)))
        self.assertEqual([mails(p) for p in peers], [["", ""], [" RET=HDRS REQUIRETLS"] * 2, []])
        delivery.close()
        self.network.flush()


class OptionalTests(DeliveryTestCase):
    """TLS-Required: No."""

    def setUp(self) -> None:
        super().setUp()
        self.exchangers[DOMAIN] = [(10, "mx1.example")]

    def test_whatever_the_certificate_is(self) -> None:
        """rejectUnauthorized is not for it."""
        self.tls = PretendedTLS(TLSSummary("TLSv1.3", "X", 256, verify_error="expired"))
        strict = OutboundTLS(reject_unauthorized=True)
        self.network.serve(FIRST, ObligingPeer(*ALL), ObligingPeer(*ALL))
        self.assertIn("delayed 451 4.7.5", self.only(self.attempt(None, self.delivery(strict))))
        self.assertIn("delivered", self.only(self.attempt(optional(), self.delivery(strict))))

    def test_in_the_clear(self) -> None:
        """Where TLS fails, from the second attempt on."""
        strict = OutboundTLS(reject_unauthorized=True)
        broken, clear = ObligingPeer(*ALL, handshake=False), ObligingPeer(*ALL)
        self.network.serve(FIRST, broken, clear)
        told = self.only(self.attempt(optional(attempts=1), self.delivery(strict)))
        self.assertIn("delivered", told)
        self.assertEqual(mails(clear), [""])

    def test_not_at_a_forced_host(self) -> None:
        """What the operator demands of a host by its name is not given up."""
        forced = OutboundTLS(force_tls_hosts=HostList.parse([DOMAIN]))
        self.serve(ObligingPeer("8BITMIME"))
        told = self.only(self.attempt(optional(attempts=1), self.delivery(forced)))
        self.assertIn("delayed 451 4.7.4", told)


class ReportTests(DeliveryTestCase):
    """What is said about such mail."""

    def report(self, queued: QueuedMessage) -> bytes:
        (who,) = queued.pending
        reply = missed(
            Decision(SecurityLevel.VERIFY, (), requiretls=RequireTLS.ENFORCE),
            Miss.NO_REQUIRETLS,
            "REQUIRETLS is required, but mx1.example does not offer it",
        )
        told = [Notice(who, Action.FAILED, reply, reply)]
        return Reporter("mta.example").report(queued, told, Original(b"A: b\r\n"), 1.0, "T")

    def test_the_tag_is_dropped(self) -> None:
        """It returns no content, and arrives anywhere."""
        report = self.report(tagged())
        self.assertFalse(report_envelope(tagged(), report).parameters.requiretls)
        self.assertIn(b"Status: 5.7.30\r\n", report)
        self.assertNotIn(b"TLS-Required", report)

    def test_the_header_is_copied(self) -> None:
        """What is said of a message that may do without TLS may do without it."""
        report = self.report(optional())
        self.assertEqual(report.partition(b"\r\n\r\n")[0].count(b"\r\nTLS-Required: No\r\n"), 1)
        self.assertTrue(report_envelope(optional(), report).tls_optional)

    def test_header_alone(self) -> None:
        """RET=FULL counts for nothing (section 5)."""
        spool: Any = Bodies()
        recorder = Recorder(spool, Any, (), Reporter("mta.example"), self.clock)  # type: ignore[arg-type]
        for queued, whole in ((tagged(), False), (queued_message(), True)):
            parameters = evolve(queued.envelope.parameters, ret="FULL")
            queued = evolve(queued, envelope=evolve(queued.envelope, parameters=parameters))
            (who,) = queued.pending
            reply = missed(Decision(SecurityLevel.MAY, ()), Miss.HANDSHAKE, "no")
            told = [Notice(who, Action.FAILED, reply, reply)]
            original = recorder._original(queued, told)
            found = self.successResultOf(Deferred.fromCoroutine(original))
            self.assertIs(found.whole, whole)
