"""Users in a file: who can log in by what, and what is said to the operator."""

import hmac
import os
from hashlib import pbkdf2_hmac, sha256
from typing import Any

from argon2.low_level import Type, hash_secret
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.connection import TLSSummary
from harakatls.plugins.auth_flat_file import AT_A_TIME, FlatFile, load
from harakatls.plugins.few_threads import FewThreads
from harakatls.plugins.sender_constraint import organisational_domain
from harakatls.smtp.scram import ScramKeys
from harakatls.users.stored import ScramPassword
from harakatls.verdict import ACCEPT, CONTINUE, Reject
from tests.plugins.support import config_of, connection_from, result_of, site_of, transaction_for

FILE = "auth_flat_file.ini"
KEYS = ScramKeys.of("sesame", b"sixteen octets!!", 4096)
FINGERPRINT = "0123456789abcdef" * 4
INSIDE = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


SCRAM_LINE = ScramPassword(KEYS).as_text
# With the least of everything.
ARGON2_LINE = hash_secret(b"sesame", b"sixteen octets!!", 1, 8, 1, 32, Type.ID).decode()


class FlatFileCase(SynchronousTestCase):
    def plugin(self, text: str) -> FlatFile:
        """Of a file with that text."""
        self.site = site_of(self, {FILE: text})
        self.file = self.site.config.path / FILE
        self.file.chmod(0o600)
        return load(self.site)

    def mechanisms(self, plugin: FlatFile, summary: TLSSummary = INSIDE) -> set[str]:
        return set(result_of(self, plugin.mechanisms(connection_from(secured=summary))))

    def verdict(self, plugin: FlatFile, user: str, password: str) -> Any:
        return result_of(self, plugin.password(connection_from(secured=INSIDE), user, password))

    def secret(self, plugin: FlatFile, mechanism: str, user: str) -> Any:
        return result_of(self, plugin.secret(connection_from(), mechanism, user))

    def logged(self) -> list[str]:
        """What will be."""
        events: list[str] = []

        observe: Any = lambda event: events.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return events


class KindTests(FlatFileCase):
    def test_mechanisms(self) -> None:
        """What is kept of the passwords decides what is offered, unless it is said."""
        both = {"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}
        for text, expected in [
            ("", set()),
            (f"[users]\nann={ARGON2_LINE}", {"PLAIN", "LOGIN"}),
            (f"[users]\nann={SCRAM_LINE}", {"PLAIN", "LOGIN", *both}),
            ("[users]\nann=sesame", {"PLAIN", "LOGIN", "CRAM-MD5", *both}),
            (f"[users]\nann={SCRAM_LINE}\nbob={ARGON2_LINE}", {"PLAIN", "LOGIN"}),
            (f"[core]\nmethods=scram-sha-256\n[users]\nann={SCRAM_LINE}\nbob={ARGON2_LINE}", both),
            (f"[core]\nmethods=CRAM-MD5, PLAIN\n[users]\nann={SCRAM_LINE}", {"PLAIN"}),
            ("[core]\nmethods=CRAM-MD5\n[users]\nann=sesame", {"CRAM-MD5"}),
        ]:
            self.assertEqual(self.mechanisms(self.plugin(text)), expected, text)

    def test_passwords(self) -> None:
        """Right, wrong, and a user who is not there, whatever is kept of the password."""
        for line in (ARGON2_LINE, SCRAM_LINE, "sesame"):
            plugin = self.plugin(f"[users]\nann@a.example={line}\n")
            self.assertIs(self.verdict(plugin, "ann@a.example", "sesame"), ACCEPT)
            self.assertEqual(self.verdict(plugin, "ann@a.example", "open sesame"), Reject())
            self.assertIs(self.verdict(plugin, "bob@a.example", "sesame"), CONTINUE)
            self.assertIs(self.verdict(plugin, "ANN@a.example", "sesame"), CONTINUE)

    def test_stored_in_another_form(self) -> None:
        """Passwords are prepared before they are compared, those in the file as well."""
        plugin = self.plugin("[users]\nann=se\u00adsame\n")
        self.assertIs(self.verdict(plugin, "ann", "sesame"), ACCEPT)

    def test_unknown_users_take_as_long(self) -> None:
        """The same work is done for one who is not there, of the kind that most users have."""
        asked: list[Any] = []

        async def call(function: Any, *arguments: Any) -> Any:
            asked.append((function.__self__.kind, arguments))
            return function(*arguments)

        text = f"[users]\nann={SCRAM_LINE}\nbob={ARGON2_LINE}\neve={ARGON2_LINE}\n"
        plugin = FlatFile(config_of(self, {FILE: text}), call)
        self.verdict(plugin, "nobody", "guess")
        self.verdict(plugin, "bob", "guess")
        self.assertEqual(asked, [("argon2", ("guess",))] * 2)

    def test_not_for_passwords(self) -> None:
        """Where neither PLAIN nor LOGIN is offered by it, it has nothing to say on passwords."""
        plugin = self.plugin("[core]\nmethods=CRAM-MD5\n[users]\nann=sesame\n")
        self.assertIs(self.verdict(plugin, "ann", "sesame"), CONTINUE)

    def test_secrets(self) -> None:
        """For CRAM-MD5 and SCRAM, as far as there are any, and the same each time."""
        plugin = self.plugin(f"[users]\nann={SCRAM_LINE}\n")
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
            self.assertEqual(self.secret(plugin, mechanism, "ann"), KEYS)
        self.assertIsNone(self.secret(plugin, "CRAM-MD5", "ann"))
        plugin = self.plugin("[users]\nann=sesame\n")
        self.assertEqual(self.secret(plugin, "CRAM-MD5", "ann"), "sesame")
        keys = self.secret(plugin, "SCRAM-SHA-256", "ann")
        self.assertTrue(keys.fit("sesame"))
        self.assertIs(self.secret(plugin, "SCRAM-SHA-256-PLUS", "ann"), keys)
        plugin = self.plugin(
            f"[core]\nmethods=SCRAM-SHA-256\n[users]\nann={SCRAM_LINE}\nbob={ARGON2_LINE}\n"
        )
        self.assertTrue(self.secret(plugin, "SCRAM-SHA-256", "bob").is_pretended)

    def test_short_salt(self) -> None:
        """Other servers' files have them: they are as good for PLAIN as for SCRAM."""
        salted = pbkdf2_hmac("sha256", b"sesame", b"8 octets", 4096)
        stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        server = hmac.digest(salted, b"Server Key", "sha256")
        text = ScramPassword(ScramKeys(b"8 octets", 4096, stored, server)).as_text
        plugin = self.plugin(f"[users]\nann={text}\n")
        self.assertIs(self.verdict(plugin, "ann", "sesame"), ACCEPT)
        self.assertIsInstance(self.verdict(plugin, "ann", "simsim"), Reject)

    def test_secrets_of_nobody(self) -> None:
        """Who is not there is asked the same as the others, each time."""
        short = ScramPassword(ScramKeys.of("sesame", b"octets 9!", 5000)).as_text
        for line, salt, iterations in ((SCRAM_LINE, 16, 4096), (short, 9, 5000)):
            plugin = self.plugin(f"[users]\nann={line}\n")
            keys = self.secret(plugin, "SCRAM-SHA-256", "bob")
            self.assertEqual((len(keys.salt), keys.iterations), (salt, iterations))
            self.assertTrue(keys.is_pretended)
            self.assertEqual(self.secret(plugin, "SCRAM-SHA-256-PLUS", "bob"), keys)
            self.assertNotEqual(self.secret(plugin, "SCRAM-SHA-256", "cid").salt, keys.salt)
            self.assertIsNone(self.secret(plugin, "CRAM-MD5", "bob"))
        self.assertIsNone(self.secret(self.plugin(""), "SCRAM-SHA-256", "bob"))


class CertificateTests(FlatFileCase):
    def user(self, plugin: FlatFile, summary: TLSSummary) -> str | None:
        return result_of(self, plugin.certificate(connection_from(secured=summary)))

    def test_external(self) -> None:
        """By fingerprint or name, of verified certificates alone."""
        colons = ":".join(FINGERPRINT[n : n + 2] for n in range(0, 64, 2)).upper()
        plugin = self.plugin(
            f"[certificates]\n{colons}=bob@a.example\nPrinter.a.example=printer@a.example\n"
        )
        verified = evolve(INSIDE, verified=True, fingerprint="f" * 64, peer_names=("x.a.example",))
        for summary, user in [
            (INSIDE, None),
            (verified, None),
            (evolve(verified, fingerprint=FINGERPRINT), "bob@a.example"),
            (evolve(verified, peer_names=("y", "printer.A.example")), "printer@a.example"),
            (evolve(verified, fingerprint=FINGERPRINT, verified=False), None),
        ]:
            self.assertEqual(self.user(plugin, summary), user)
            offered = {"EXTERNAL"} if user else set()
            self.assertEqual(self.mechanisms(plugin, summary), offered)


class SenderTests(FlatFileCase):
    def mail(self, plugin: FlatFile, user: str | None, sender: str | None) -> Any:
        connection = connection_from(secured=INSIDE)
        if user is not None:
            connection = connection.after_login(user, None)
        return result_of(self, plugin.mail(connection, transaction_for(sender=sender)))

    def test_constrained(self) -> None:
        """The registered domain of the sender is the user's."""
        users = "ann@mail.example.co.uk=x\nbob=x\njo@bücher.example=x\n"
        users = users.replace("jo@bücher.example", "jo@xn--bcher-kva.example")
        plugin = self.plugin(f"[users]\n{users}")
        ann = "ann@mail.example.co.uk"
        for user, sender in [
            (ann, "x@mail.example.co.uk"),
            (ann, "x@example.co.uk"),
            (ann, "x@other.example.co.uk"),
            (ann, None),
            ("bob", "x@elsewhere.example"),
            ("jo@xn--bcher-kva.example", "jo@bücher.example"),
            (None, "x@elsewhere.example"),
            ("ann@another.plugin", "x@elsewhere.example"),
        ]:
            self.assertIs(self.mail(plugin, user, sender), CONTINUE, (user, sender))
        refused = self.mail(plugin, ann, "x@other.co.uk")
        self.assertEqual(
            str(refused.reply),
            "550 5.7.1 Envelope domain 'other.co.uk' doesn't match AUTH domain "
            "'mail.example.co.uk'",
        )

    def test_not_constrained(self) -> None:
        """With constrain_sender=false."""
        plugin = self.plugin("[core]\nconstrain_sender=false\n[users]\nann@a.example=x\n")
        self.assertIs(self.mail(plugin, "ann@a.example", "x@b.example"), CONTINUE)

    def test_organisational_domain(self) -> None:
        """By the list of public suffixes."""
        for domain, expected in [
            ("mail.example.com", "example.com"),
            ("a.b.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ]:
            self.assertEqual(organisational_domain(domain), expected)


class OperatorTests(FlatFileCase):
    def test_refused(self) -> None:
        """What cannot be meant names file, section and key, and never what may be a password."""
        for text, place, told in [
            ("[core]\nmethods=PLAIN,NTLM", "[core] methods", "'NTLM' is not one of PLAIN"),
            ("[core]\nconstrain_sender=maybe", "[core] constrain_sender", "neither true nor"),
            ("[users]\nann=$argon2id$hunter2", "[users] ann", "no hash of Argon2"),
            ("[users]\nann=SCRAM-SHA-256$hunter2", "[users] ann", "has not the form SCRAM"),
            (
                f"[users]\nann={SCRAM_LINE.replace('4096', '4095')}",
                "[users] ann",
                "has not 4096 to 1000000 iterations",
            ),
            (
                "[users]\nann=SCRAM-SHA-256$4096:c2FsdHNhbHQ=$aHVudGVyMg==:aHVudGVyMg==",
                "[users] ann",
                "keys of the wrong length",
            ),
            ("[users]\nann=", "[users] ann", "SASLprep"),
            ("[users]\nann", "[users] ann", "has no value"),
            ("[certificates]\na..b=bob", "[certificates] a..b", "fingerprint"),
            ("[certificates]\na.example=", "[certificates] a.example", "not the name of a user"),
        ]:
            problem = self.assertRaises(ConfigError, self.plugin, text)
            self.assertTrue(str(problem).startswith(f"{FILE} {place}: "), str(problem))
            self.assertIn(told, str(problem))
            self.assertNotIn("hunter2", str(problem))

    def test_warned(self) -> None:
        """What works, but perhaps not as meant."""
        for text, told in [
            ("[users]\nann=hunter2", "1 password is kept in the clear; 'harakatls passwd USER'"),
            (f"[core]\nmethods=CRAM-MD5\n[users]\nann={SCRAM_LINE}", "CRAM-MD5: no user"),
            (
                f"[core]\nmethods=CRAM-MD5\n[users]\nann={SCRAM_LINE}\nbob=x",
                "CRAM-MD5: 1 of 2 users not",
            ),
            ("[core]\nmethdos=PLAIN", "unknown key; did you mean methods?"),
        ]:
            self.plugin(text)
            warnings = self.site.config.ini(FILE).warnings
            self.assertIn(told, " ".join(warnings))
            self.assertNotIn("hunter2", " ".join(warnings))

    def test_nobody(self) -> None:
        """A file without users is told of; so is one that all may read."""
        events = self.logged()
        self.plugin("")
        self.assertIn("names no users", events[-1])
        site = site_of(self, {FILE: f"[users]\nann={SCRAM_LINE}"})
        (site.config.path / FILE).chmod(0o644)
        load(site)
        self.assertIn("may be read or changed by all", events[-1])

    def test_read_again(self) -> None:
        """What changes counts from the next EHLO on; what is wrong does not."""
        plugin = self.plugin("[users]\nann=sesame\n")
        self.assertNotIn(self.file, self.site.config.stamps)  # so nobody asks for a restart
        self.assertTrue(self.secret(plugin, "SCRAM-SHA-256", "ann").fit("sesame"))
        events = self.logged()
        self.file.write_text("[users]\nann=open sesame\nbob=x\n")
        self.mechanisms(plugin)
        self.assertIn(f"{FILE} has changed: 2 users", events)
        self.assertIs(self.verdict(plugin, "ann", "open sesame"), ACCEPT)
        self.assertTrue(self.secret(plugin, "SCRAM-SHA-256", "ann").fit("open sesame"))
        self.file.write_text("[users]\nann=SCRAM-SHA-256$\n")
        self.mechanisms(plugin)
        self.assertIn("the users from before stay", events[-1])
        self.assertIs(self.verdict(plugin, "ann", "open sesame"), ACCEPT)
        count = len(events)
        self.mechanisms(plugin)
        self.assertEqual(len(events), count)
        os.unlink(self.file)
        self.mechanisms(plugin)
        self.assertIs(self.verdict(plugin, "ann", "open sesame"), CONTINUE)

    def test_read_again_meanwhile(self) -> None:
        """Keys of the password from before, made while the file changes, are not kept."""
        plugin = self.plugin("[users]\nann=sesame\n")
        working: list[Deferred[Any]] = []

        def call(function: Any, *arguments: object) -> Deferred[Any]:
            working.append(Deferred())
            return working[-1].addCallback(lambda _: function(*arguments))

        plugin._threads = FewThreads(call, AT_A_TIME)
        asked = Deferred.fromCoroutine(plugin.secret(connection_from(), "SCRAM-SHA-256", "ann"))
        self.file.write_text("[users]\nann=open sesame\n")
        self.mechanisms(plugin)
        working.pop().callback(None)
        self.successResultOf(asked)
        asked = Deferred.fromCoroutine(plugin.secret(connection_from(), "SCRAM-SHA-256", "ann"))
        for work in working:
            work.callback(None)
        keys = self.successResultOf(asked)
        assert isinstance(keys, ScramKeys)
        self.assertTrue(keys.fit("open sesame"))


class FewThreadsTests(SynchronousTestCase):
    def test_so_many_at_a_time(self) -> None:
        """Others wait; and who gives up leaves his place when the work is done, not before."""
        running: list[Deferred[Any]] = []

        def call(*_: object) -> Deferred[Any]:
            running.append(Deferred())
            return running[-1]

        threads = FewThreads(call, AT_A_TIME)
        asked = [Deferred.fromCoroutine(threads.call(len, "x")) for _ in range(AT_A_TIME + 2)]
        self.assertEqual(len(running), AT_A_TIME)
        asked[0].cancel()
        self.failureResultOf(asked[0])
        self.assertEqual(len(running), AT_A_TIME)
        running[0].callback(1)
        self.assertEqual(len(running), AT_A_TIME + 1)
        running[1].errback(ValueError())
        self.failureResultOf(asked[1], ValueError)
        self.assertEqual(len(running), AT_A_TIME + 2)
        running[-1].callback(7)
        self.assertEqual(self.successResultOf(asked[-1]), 7)
