"""Tests for ``harakatls queue show``."""

from attrs import evolve

from harakatls.config.directory import ConfigDirectory
from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.mail.route import NextHop
from harakatls.queued import Attempt, Delayed, Delivered, Failed, Trial
from harakatls.service.queue_advice import Rules, advice
from harakatls.smtp.reply import Reply
from tests.contracts.spool import ARRIVED, BODY
from tests.service.queue_case import QueueCase

HOP = NextHop("192.0.2.1", domain="one.example", mx_name="mx.one.example")
PLACE = "mx.one.example [192.0.2.1]:25"
LATER = 5e9
WRONG_NAME = (
    "451 4.7.5 TLS is required, but it failed with mx.one.example: "
    "certificate is for other.example, not mx.one.example"
)
FORCED = Trial(PLACE, WRONG_NAME, "", ("force_tls_hosts lists one.example",))


class ShowCase(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure("[outbound]\nforce_tls_hosts[]=one.example\n")
        self.add("A.1", "a@one.example")

    def configure(self, tls: str, outbound: str = "temp_fail_intervals=1m,1h,1d\n") -> None:
        (self.config / "tls.ini").write_text(tls)
        (self.config / "outbound.ini").write_text(outbound)

    def attempted(self, trial: Trial) -> None:
        [queued] = self.claim()
        self.delay(queued, trial, LATER)

    def shown(self, *arguments: str) -> str:
        done = self.command("show", *(arguments or ("A.1",)))
        self.assertEqual((done.status, done.err), (0, ""))
        return done.text

    def remedies(self) -> list[str]:
        [found] = self.command("show", "A.1", "--json").json
        [held] = found["tls_holds_it_back"]
        return list(held["would_change_it"])


class HistoryTests(ShowCase):
    def test_all_that_is_known(self) -> None:
        """Who, what, when; each attempt with host, reply and TLS; and what happens next."""
        sent = Envelope(
            parse_address("from@sender.example"),
            tuple(Recipient(parse_address(f"{name}@two.example")) for name in "abc"),
            MailParameters(body="8BITMIME", smtputf8=True, ret="HDRS", envid="x", requiretls=True),
        )
        self.run_to_end(self.stage("B.1", BODY).commit(sent))
        [queued] = self.claim(domains=["two.example"])
        a, b, c = queued.pending
        delayed = Delayed(c, Reply.of(450, "4.2.0", "greylisted"), HOP)
        unreachable = Trial("mx2.two.example [192.0.2.2]:25", "451 4.4.1 no connection", "", ())
        tried = Trial(PLACE, "450 4.2.0 greylisted", "TLSv1.3 X verified", ("no rule", "really"))
        first = queued.after_attempt(
            [
                Delivered(a, Reply.of(250, "2.0.0", "taken"), HOP),
                Failed(b, Reply.of(550, "5.1.1", "unknown"), HOP),
                delayed,
            ],
            Attempt(ARRIVED, (unreachable, tried)),
            LATER,
        )
        self.settle(first.after_attempt([delayed], Attempt(ARRIVED + 60, ()), LATER))
        text = self.shown("B.1")
        for line in (
            "B.1.1",
            "  from      <from@sender.example>",
            "  with      BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x REQUIRETLS",
            "  domain    two.example",
            "  size      20 octets",
            "  to        <a@two.example>  delivered",
            "              last reply: 250 2.0.0 taken",
            "  to        <b@two.example>  failed",
            "  to        <c@two.example>  waits",
            "  2 attempts",
            "       mx2.two.example [192.0.2.2]:25",
            "         450 4.2.0 greylisted",
            "         TLS: TLSv1.3 X verified",
            "         why: no rule",
            "              really",
            "       no host was tried",
        ):
            self.assertIn(f"{line}\n", text)
        self.assertRegex(text, r"(?m)^    1\. 1970-01-1")
        self.assertRegex(text, r"(?m)^  next      2128-\S+ \S+ \(in \d+ d .+\)$")
        [found] = self.command("show", "B.1", "--json").json
        self.assertEqual(
            [r["state"] for r in found["recipients"]], ["delivered", "failed", "waits"]
        )
        self.assertEqual(found["next"]["at"], LATER)
        self.assertEqual(found["next"]["gives_up_at"], LATER + 86400)
        self.assertEqual([len(attempt["trials"]) for attempt in found["history"]], [2, 0])
        self.assertEqual(found["history"][0]["trials"][1]["reasons"], ["no rule", "really"])

    def test_what_happens_next(self) -> None:
        """In each state, when it is tried or why not, and when it goes back to its sender."""
        self.assertIn("  next      due now\n", self.shown())
        [queued] = self.claim()
        self.assertIn("  now       in hand now\n", self.shown())
        self.settle(evolve(queued, due=LATER, attempts=3))
        text = self.shown()
        self.assertIn("  next      2128-", text)
        self.assertIn("if all attempts fail", text)
        self.command("hold", "A.1")
        text = self.shown()
        self.assertIn("  now       held until it is released\n", text)
        self.assertNotIn("gives up", text)
        [found] = self.command("show", "A.1", "--json").json
        self.assertEqual((found["next"]["at"], found["next"]["gives_up_at"]), (None, None))

    def test_damaged(self) -> None:
        """What cannot be read is shown as far as it is known."""
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '{}'")
        self.assertIn("what is stored of it cannot be read", self.shown())
        [found] = self.command("show", "A.1", "--json").json
        self.assertIn("not a queued message", found["problem"])

    def test_bad_configuration(self) -> None:
        """A mistake in a file hides no history."""
        self.configure("[outbound]\nrejectUnauthorized=perhaps\n")
        done = self.command("show", "A.1")
        self.assertEqual(done.status, 0)
        self.assertIn("tls.ini [outbound] rejectUnauthorized", done.err)
        self.assertIn("<a@one.example>", done.text)

    def test_which(self) -> None:
        """It must be said of which messages; an unknown one is told."""
        self.assertEqual(self.command("show").status, 2)
        self.assertEqual(self.command("show", "Z.1").status, 2)
        self.assertEqual(self.shown("--domain", "no.example"), "no message fits\n")
        self.add("B.1", "a@one.example")
        self.assertEqual(self.shown("--domain", "one.example", "--limit", "1").count("domain"), 1)


class AdviceTests(ShowCase):
    """Why TLS holds a message back, and what would change it."""

    def test_wrong_certificate_for_a_forced_host(self) -> None:
        """The operator reads what was found, which entry asks for more, and the ways out."""
        self.attempted(FORCED)
        text = self.shown()
        self.assertIn(f"  TLS holds it back: {PLACE}\n", text)
        self.assertIn("certificate is for other.example, not mx.one.example\n", text)
        self.assertIn("    because   force_tls_hosts lists one.example\n", text)
        first, second = self.remedies()
        self.assertIn("shows a valid certificate for mx.one.example,", first)
        self.assertIn("force_tls_hosts in tls.ini [outbound] does not list one.example", second)
        self.assertIn("in the clear", second)

    def test_issuer_that_nobody_knows(self) -> None:
        """Then it may be ours to trust it."""
        result = (
            "451 4.7.5 TLS is required, but it failed with mx.one.example: "
            "unable to get local issuer certificate"
        )
        self.attempted(evolve(FORCED, result=result))
        self.assertIn("ca in tls.ini [outbound] names the authority", self.remedies()[1])

    def test_no_tls_at_a_forced_host(self) -> None:
        """No certificate helps where TLS is not offered."""
        result = "451 4.7.4 TLS is required, but mx.one.example does not offer STARTTLS"
        self.attempted(evolve(FORCED, result=result))
        self.assertEqual(self.remedies()[0], "the host offers STARTTLS")
        self.assertIn("does not list one.example any more", self.remedies()[1])

    def test_tls_is_switched_off(self) -> None:
        """Two settings that contradict each other."""
        self.configure("[outbound]\nforce_tls_hosts[]=one.example\n", "enable_tls=false\n")
        self.attempted(
            evolve(
                FORCED,
                result="451 4.7.4 TLS is required by force_tls_hosts (one.example), but "
                "enable_tls is off",
                reasons=("force_tls_hosts lists one.example", "enable_tls is off"),
            )
        )
        self.assertIn("enable_tls = true in outbound.ini", self.remedies()[0])

    def test_reject_unauthorized(self) -> None:
        """A rule for all hosts."""
        self.configure("[outbound]\nrejectUnauthorized=true\n")
        reason = "rejectUnauthorized: TLS if it is offered, with a valid certificate alone"
        self.attempted(evolve(FORCED, reasons=(reason,)))
        self.assertIn("rejectUnauthorized = false in tls.ini [outbound]", self.remedies()[-1])

    def test_requiretls(self) -> None:
        """What its sender asks for (RFC 8689), and where the operator may ask for less."""
        needs = "REQUIRETLS: TLS with a valid certificate, and REQUIRETLS there as well"
        self.configure("")
        [queued] = self.claim()
        tagged = evolve(queued.envelope, parameters=MailParameters(requiretls=True))
        queued = evolve(queued, envelope=tagged)
        for result, remedy in (
            ("550 5.7.30 REQUIRETLS needs TLS, but mx does not offer STARTTLS", "STARTTLS"),
            ("550 5.7.30 REQUIRETLS is required, but mx does not offer it", "offers REQUIRETLS"),
            (
                "550 5.7.10 REQUIRETLS needs TLS, but it failed with mx: expired",
                "valid certificate",
            ),
            ("451 4.7.5 REQUIRETLS needs TLS, but it failed with mx: alert", "valid certificate"),
        ):
            trial = Trial(PLACE, result, "", (f"{needs} (requiretls is enforce)",))
            shown = list(
                advice(evolve(queued, history=(Attempt(ARRIVED, (trial,)),)), self.rules())
            )
            self.assertEqual([one.host for one in shown], [PLACE])
            self.assertIn(remedy, shown[0].remedies[0])
            self.assertIn("[requiretls_hosts] for this host alone", shown[0].remedies[-1])
        self.configure("[outbound]\nrequiretls=opportunistic\n")
        (shown_now,) = advice(evolve(queued, history=(Attempt(ARRIVED, (trial,)),)), self.rules())
        self.assertIn("the configuration has changed since", shown_now.remedies[0])

    def rules(self) -> Rules:
        return Rules.load(ConfigDirectory(self.config))

    def test_by_itself(self) -> None:
        """A first handshake that failed, where TLS is no must."""
        self.configure("")
        result = "451 4.7.5 TLS failed with mx.one.example: no shared cipher"
        reason = "no rule for this host: TLS if it is offered"
        self.attempted(evolve(FORCED, result=result, reasons=(reason,)))
        self.assertIn("nothing needs to", self.remedies()[0])

    def test_a_back_end(self) -> None:
        """That of a plugin has rules of its own, and it is there that they are changed."""
        self.configure("[smtp_forward]\nforce_tls_hosts[]=one.example\n")
        self.attempted(FORCED)
        first, entry = self.remedies()
        self.assertIn("shows a valid certificate for mx.one.example,", first)
        self.assertIn("force_tls_hosts in tls.ini [smtp_forward] does not list", entry)

    def test_changed_since(self) -> None:
        """Who has corrected the configuration reads that it counts for the next attempt."""
        self.attempted(FORCED)
        self.configure("[outbound]\nno_tls_hosts[]=192.0.2.0/24\n")
        [remedy] = self.remedies()
        self.assertIn("has changed since: for the next attempt, no_tls_hosts lists", remedy)

    def test_other_reasons(self) -> None:
        """A host that cannot be reached, or one that wants TLS of us, is no matter of ours."""
        for result in ("451 4.4.1 no connection", "530 5.7.0 Must issue STARTTLS", "451 4.7.1 TLS"):
            self.attempted(evolve(FORCED, result=result))
            self.assertNotIn("holds it back", self.shown())
            self.command("flush", "--all")
            self.clock.advance(2e9)
