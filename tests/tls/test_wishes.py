"""What REQUIRETLS and TLS-Required: No make of the decision for a host (RFC 8689)."""

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.hosts import HostList
from harakatls.mail.envelope import MailParameters, TLSWish
from harakatls.mail.route import LMTP, BackEndOptions, Credentials, NextHop
from harakatls.testing.values import envelope
from harakatls.tls.policy import Decision, SecurityLevel, outbound_decision
from harakatls.tls.requiretls import IN_OUR_HOUSE, RequireTLS, RequireTLSPolicy
from harakatls.tls.settings import OutboundTLS
from harakatls.tls.wishes import as_told, decision_for

NONE, MAY, ENCRYPT, VERIFY = SecurityLevel
DISABLE, OPPORTUNISTIC, STARTTLS, ENFORCE = RequireTLS
MX = NextHop("192.0.2.7", "example.com", mx_name="mx.example.net")
ROUTE = evolve(MX, source="route")
FORCED = HostList.parse(["example.com"])
LONG_AGO = 1_700_000_000.0


def settings(usual: RequireTLS = ENFORCE, **others: Any) -> OutboundTLS:
    """@param others: fields of `OutboundTLS`."""
    return OutboundTLS(requiretls=RequireTLSPolicy(usual, min(usual, OPPORTUNISTIC)), **others)


def required(tls: OutboundTLS, hop: NextHop = MX, **how: Any) -> Decision:
    return decision_for(TLSWish.REQUIRED, hop, tls, how.pop("failed_at", None), **how)


class RequiredTests(SynchronousTestCase):
    """A message with REQUIRETLS."""

    def test_table(self) -> None:
        """Each level against what the operator says of the host: the stronger of both counts."""
        excluded = {"no_tls_hosts": FORCED}
        strict = {"reject_unauthorized": True}
        forced = {"force_tls_hosts": FORCED}
        for usual, others, level, authenticated, told in (
            (DISABLE, {}, MAY, False, None),
            (DISABLE, excluded, NONE, False, None),
            (DISABLE, forced, VERIFY, True, None),
            (OPPORTUNISTIC, {}, MAY, False, OPPORTUNISTIC),
            (OPPORTUNISTIC, strict, MAY, True, OPPORTUNISTIC),
            (OPPORTUNISTIC, excluded, NONE, False, OPPORTUNISTIC),
            (OPPORTUNISTIC, forced, VERIFY, True, OPPORTUNISTIC),
            (STARTTLS, {}, ENCRYPT, False, STARTTLS),
            (STARTTLS, strict, ENCRYPT, True, STARTTLS),
            (STARTTLS, excluded, ENCRYPT, False, STARTTLS),
            (STARTTLS, forced, VERIFY, True, STARTTLS),
            (ENFORCE, {}, VERIFY, True, ENFORCE),
            (ENFORCE, excluded, VERIFY, True, ENFORCE),
            (ENFORCE, forced, VERIFY, True, ENFORCE),
        ):
            decision = required(settings(usual, **others))
            found = (decision.level, decision.authenticated, decision.requiretls)
            self.assertEqual(found, (level, authenticated, told), (usual, others))
            self.assertIsNone(decision.refusal)
            if level > NONE:
                self.assertEqual(decision.reference, "mx.example.net")
                self.assertEqual(decision.server_name, "mx.example.net")

    def test_reasons(self) -> None:
        """The operator reads what is asked for, why, and what it is worth."""
        self.assertEqual(
            required(settings(no_tls_hosts=FORCED)).reasons,
            (
                "REQUIRETLS: TLS with a valid certificate, and REQUIRETLS there as well "
                "(requiretls is enforce)",
                "although no_tls_hosts lists example.com",
                "the host was found by plain DNS, which proves nothing",
            ),
        )
        self.assertEqual(
            required(settings(force_tls_hosts=FORCED), ROUTE).reasons[1:],
            ("force_tls_hosts lists example.com",),
        )
        self.assertEqual(
            required(settings(DISABLE)).reasons[-1],
            "REQUIRETLS is not passed on: requiretls is disable",
        )

    def test_the_memory_of_a_failure_never_counts(self) -> None:
        """An attacker who breaks one handshake gets no later message without TLS."""
        for usual in (OPPORTUNISTIC, STARTTLS, ENFORCE):
            decision = required(settings(usual), failed_at=LONG_AGO)
            self.assertGreaterEqual(decision.level, MAY)
            self.assertFalse(decision.may_forgo)
        self.assertIs(required(settings(DISABLE), failed_at=LONG_AGO).level, NONE)
        self.assertTrue(required(settings(DISABLE)).may_forgo)

    def test_fallback(self) -> None:
        """In the clear after a failed handshake: only where TLS is not demanded."""
        for usual in RequireTLS:
            decision = required(settings(usual))
            self.assertIs(decision.may_fall_back, usual < STARTTLS)

    def test_tls_is_off(self) -> None:
        """enable_tls=false: nothing is sent where TLS is demanded."""
        for usual in (STARTTLS, ENFORCE):
            refusal = required(settings(usual), enabled=False).refusal
            self.assertEqual(refusal, "REQUIRETLS needs TLS, but enable_tls is off")
        decision = required(settings(OPPORTUNISTIC), enabled=False)
        self.assertEqual((decision.level, decision.refusal), (NONE, None))

    def test_an_mx_from_plain_dns(self) -> None:
        """It is good enough, unless the operator says that it is not."""
        strict = OutboundTLS(requiretls=RequireTLSPolicy(secure_mx=True))
        refusal = required(strict).refusal or ""
        self.assertIn("mx.example.net was found by plain DNS (requiretls_secure_mx)", refusal)
        literal = NextHop("192.0.2.7", "[192.0.2.7]", source="address literal")
        implicit = evolve(MX, source="implicit mx")
        self.assertIsNotNone(required(strict, implicit).refusal)
        for hop in (ROUTE, literal):
            self.assertIsNone(required(strict, hop).refusal)
            self.assertIs(required(strict, hop).level, VERIFY)
        lower = OutboundTLS(requiretls=RequireTLSPolicy(STARTTLS, secure_mx=True))
        self.assertIsNone(required(lower).refusal)

    def test_our_own_hosts(self) -> None:
        """Mail stores do not know REQUIRETLS. What the DNS names is never one of ours."""
        options = BackEndOptions("smtp_forward")
        for hop, expected in (
            (MX, ENFORCE),
            (ROUTE, ENFORCE),
            (evolve(MX, protocol=LMTP), OPPORTUNISTIC),
            (evolve(ROUTE, back_end=options), OPPORTUNISTIC),
            (evolve(ROUTE, host="10.1.2.3"), OPPORTUNISTIC),
            (evolve(ROUTE, host="127.0.0.1"), OPPORTUNISTIC),
            (evolve(ROUTE, host="fd00::1"), OPPORTUNISTIC),
            (evolve(MX, host="10.1.2.3"), ENFORCE),
        ):
            self.assertIs(required(OutboundTLS(), hop).requiretls, expected, hop)
        self.assertIsNone(required(settings(DISABLE), evolve(MX, protocol=LMTP)).requiretls)
        back_end = OutboundTLS(requiretls=IN_OUR_HOUSE)
        self.assertIs(required(back_end, ROUTE).requiretls, OPPORTUNISTIC)

    def test_no_wish(self) -> None:
        """All other mail goes as before."""
        for tls in (settings(), settings(force_tls_hosts=FORCED)):
            self.assertEqual(
                decision_for(TLSWish.NONE, MX, tls, LONG_AGO),
                outbound_decision(MX, tls, LONG_AGO),
            )


class OptionalTests(SynchronousTestCase):
    """A message with TLS-Required: No."""

    def optional(self, tls: OutboundTLS, **how: Any) -> Decision:
        return decision_for(TLSWish.OPTIONAL, MX, tls, how.pop("failed_at", None), **how)

    def test_capped(self) -> None:
        """TLS if it is offered, whatever the certificate is; in the clear if it fails."""
        for tls in (OutboundTLS(), OutboundTLS(reject_unauthorized=True)):
            decision = self.optional(tls)
            self.assertEqual((decision.level, decision.authenticated), (MAY, False))
            self.assertTrue(decision.may_fall_back)
            self.assertIn("TLS-Required: No", decision.reasons[-1])
            self.assertIsNone(decision.requiretls)

    def test_the_operator_comes_first(self) -> None:
        """What is demanded of a host by its name is not the sender's to give up."""
        decision = self.optional(OutboundTLS(force_tls_hosts=FORCED))
        self.assertEqual((decision.level, decision.authenticated), (VERIFY, True))
        self.assertFalse(decision.may_fall_back)
        self.assertIn("counts for nothing", decision.reasons[-1])

    def test_where_we_log_in(self) -> None:
        """No sender's header has our password told to whoever answers."""
        hop = evolve(ROUTE, credentials=Credentials("bob", "s3cret"))
        strict = OutboundTLS(reject_unauthorized=True)
        decision = decision_for(TLSWish.OPTIONAL, hop, strict, None)
        self.assertEqual((decision.level, decision.authenticated), (MAY, True))
        self.assertFalse(decision.may_fall_back)
        self.assertIn("counts for nothing", decision.reasons[-1])

    def test_nothing_is_raised(self) -> None:
        """Where TLS is not spoken, it still is not."""
        cases: tuple[tuple[OutboundTLS, dict[str, Any]], ...] = (
            (OutboundTLS(no_tls_hosts=FORCED), {}),
            (OutboundTLS(), {"enabled": False}),
            (OutboundTLS(), {"failed_at": LONG_AGO}),
        )
        for tls, how in cases:
            self.assertEqual(
                self.optional(tls, **how),
                outbound_decision(MX, tls, how.get("failed_at"), how.get("enabled", True)),
            )


class ToldTests(SynchronousTestCase):
    """The envelope that a host is told."""

    def test_told(self) -> None:
        """With the option where it is passed on; and RET=HDRS in any case (section 5)."""
        mail = evolve(envelope(), parameters=MailParameters(size=1, ret="FULL", requiretls=True))
        for usual in RequireTLS:
            given = as_told(mail, required(settings(usual))).parameters
            expected = MailParameters(size=1, ret="HDRS", requiretls=usual is not DISABLE)
            self.assertEqual(given, expected)

    def test_others(self) -> None:
        """All other envelopes stay as they are."""
        mail = evolve(envelope(), parameters=MailParameters(ret="FULL"))
        self.assertIs(as_told(mail, required(settings())), mail)
