"""Tests of queue/lmtp, queue/deliver, queue/quarantine and queue/test."""

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IQueueHook, IRouteHook, Site
from harakatls.plugins import deliver, lmtp, quarantine, queue_test, spool
from harakatls.smtp.reply import Reply
from harakatls.testing.values import queued_message
from harakatls.verdict import ACCEPT, CONTINUE, Accept, Reject, TempFail, Verdict
from tests.plugins.support import (
    Message,
    connection_from,
    result_of,
    site_of,
    staged,
    transaction_for,
)


class QueueCase(SynchronousTestCase):
    def site(self, **files: str) -> Site:
        return site_of(self, {f"{name}.ini": text for name, text in files.items()})

    def queue(
        self, plugin: Any, relaying: bool = False, body: str | None = None, **notes: Any
    ) -> Verdict:
        verifyObject(IQueueHook, plugin)
        transaction = transaction_for("a@one.example", relaying=relaying, body=body)
        transaction.notes.update({key.replace("__", "."): value for key, value in notes.items()})
        self.message = Message(b"Subject: x\r\n\r\nHello\r\n.dot\r\n", step=5)
        asked = plugin.queue(connection_from(), transaction, staged(self.message))
        verdict: Verdict = result_of(self, asked)
        return verdict


class LMTPTests(QueueCase):
    def test_taken(self) -> None:
        """Mail for us is in the queue, and from there goes to the store of its domain."""
        ini = (
            "host=10.0.0.1\n[two.example]\nhost=store.example\nport=2424\n"
            "[three.example]\n[four.example]\nport=26\n"
        )
        plugin = lmtp.load(self.site(lmtp=ini))
        verifyObject(IRouteHook, plugin)
        self.assertEqual(self.queue(plugin), ACCEPT)
        (kept,) = self.message.committed
        queued = evolve(queued_message(), envelope=kept)
        for domain, place in (
            ("one.example", ("10.0.0.1", 24, None)),
            ("two.example", ("store.example", 2424, "store.example")),
            ("three.example", ("10.0.0.1", 24, None)),
            ("four.example", ("10.0.0.1", 26, None)),
        ):
            (hop,) = result_of(self, plugin.route(domain, queued)) or ()
            self.assertEqual((hop.host, hop.port, hop.mx_name), place)
            self.assertEqual((hop.domain, hop.protocol), (domain, "lmtp"))

    def test_other_mail(self) -> None:
        """Mail of clients that may relay goes by MX, unless the store is wanted by name."""
        plugin = lmtp.load(self.site())
        self.assertEqual(self.queue(plugin, relaying=True), CONTINUE)
        self.assertEqual(self.queue(plugin, queue__wants="smtp_forward"), CONTINUE)
        self.assertEqual(self.queue(plugin, relaying=True, queue__wants="lmtp"), ACCEPT)
        self.assertIs(result_of(self, plugin.route("one.example", queued_message())), None)

    def test_our_own_domains(self) -> None:
        """What our clients send to each other goes to the store too; an MX would lead back here."""
        files = {"lmtp.ini": "[store.example]\nport=2424\n", "host_list": "ours.example\n"}
        plugin = lmtp.load(site_of(self, files))
        for domain, port in (("store.example", 2424), ("ours.example", 24), ("x.example", None)):
            queued = queued_message(recipients=(f"a@{domain}",))
            hops = result_of(self, plugin.route(domain, queued))
            self.assertEqual(hops[0].port if hops else None, port)

    def test_sockets(self) -> None:
        """A path in place of host and port: for all, or for a domain, where it beats the host."""
        ini = (
            "path=/run/dovecot/lmtp\n[two.example]\nhost=store.example\n[three.example]\n"
            "[four.example]\npath=/run/four\nport=26\n[five.example]\nport=26\n"
        )
        site = self.site(lmtp=ini)
        plugin = lmtp.load(site)
        for domain, host in (
            ("one.example", "/run/dovecot/lmtp"),
            ("two.example", "store.example"),
            ("three.example", "/run/dovecot/lmtp"),
            ("four.example", "/run/four"),
            ("five.example", "/run/dovecot/lmtp"),
        ):
            queued = queued_message()
            taken = evolve(queued, envelope=evolve(queued.envelope, route="lmtp"))
            (hop,) = result_of(self, plugin.route(domain, taken)) or ()
            self.assertEqual((hop.host, hop.domain, hop.protocol), (host, domain, "lmtp"))
        self.assertIn("[four.example] port: has no effect", "\n".join(site.config.warnings))

    def test_mistakes(self) -> None:
        """Each names its section and key."""
        for ini, told in (
            ("host=a b\n", "lmtp.ini host: 'a b' is neither"),
            ("port=x\n", "lmtp.ini port: 'x' is not a whole number"),
            ("path=run/lmtp\n", "lmtp.ini path: 'run/lmtp' is not the absolute path of a Unix"),
            (f"path=/{'x' * 107}\n", "is longer than the 107 octets of a Unix socket"),
            ("[a b]\n", "lmtp.ini [a b]: is not a domain"),
            ("[a.example]\n[A.example]\n", "same domain as another section"),
        ):
            problem = self.assertRaises(ConfigError, lmtp.load, self.site(lmtp=ini))
            self.assertIn(told, str(problem))


class DeliverTests(QueueCase):
    def test_who(self) -> None:
        """Mail of clients that may relay, unless another queue is wanted."""
        plugin = deliver.load(self.site())
        self.assertEqual(self.queue(plugin), CONTINUE)
        self.assertEqual(self.queue(plugin, relaying=True, queue__wants="lmtp"), CONTINUE)

    def test_taken(self) -> None:
        """It is in the queue."""
        plugin = deliver.Delivery(spool.DurableQueue())
        self.assertEqual(self.queue(plugin, relaying=True), ACCEPT)
        self.assertEqual(len(self.message.committed), 1)


class QuarantineTests(QueueCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.plugin = quarantine.load(self.site(quarantine=f"quarantine_path={self.directory}\n"))

    def files(self) -> list[str]:
        found = self.directory.rglob("*")
        return sorted(str(file.relative_to(self.directory)) for file in found if file.is_file())

    def test_not_wanted(self) -> None:
        """Mail that nobody has marked goes on, and leaves nothing behind."""
        self.assertEqual(self.queue(self.plugin), CONTINUE)
        self.assertFalse(self.directory.exists())

    def test_kept(self) -> None:
        """A copy with LF line ends, below the day, for the server's account alone."""
        self.assertEqual(self.queue(self.plugin, quarantine=True), CONTINUE)
        self.assertEqual(self.files(), ["19700101/C0FFEE.1"])
        file = self.directory / "19700101/C0FFEE.1"
        self.assertEqual(file.read_bytes(), b"Subject: x\n\nHello\n.dot\n")
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_binary(self) -> None:
        """A BINARYMIME message is kept as it came (RFC 3030)."""
        self.queue(self.plugin, body="BINARYMIME", quarantine=True)
        file = self.directory / "19700101/C0FFEE.1"
        self.assertEqual(file.read_bytes(), b"Subject: x\r\n\r\nHello\r\n.dot\r\n")

    def test_where(self) -> None:
        """A directory of the plugin's choice; never one outside."""
        for wanted, place in (
            ("spam", "spam"),
            ("spam/virus", "spam/virus"),
            ("../../etc", "etc"),
            ("/etc/passwd", "etc/passwd"),
            ("..", "."),
            (1, "."),
            ("a\0b/c d/.", "."),
        ):
            self.setUp()
            self.queue(self.plugin, quarantine=wanted)
            self.assertEqual(self.files(), [str(Path(place) / "19700101/C0FFEE.1")])

    def test_action(self) -> None:
        """What the client is told is up to the plugin that has marked it."""
        no = Reply.of(550, "5.7.1", "Spam")
        for action, verdict in (
            (Reject(no), Reject(no)),
            (no, Reject(no)),
            (Reply.of(451, "4.7.1", "Later"), TempFail(Reply.of(451, "4.7.1", "Later"))),
            (Accept(), Accept()),
            ("nonsense", CONTINUE),
        ):
            self.setUp()
            found = self.queue(self.plugin, quarantine=True, quarantine_action=action)
            self.assertEqual(found, verdict)

    def test_no_room(self) -> None:
        """What was to be kept is not let past without."""
        self.directory.write_text("in the way")
        verdict = self.queue(self.plugin, quarantine=True, quarantine_action=Accept())
        assert isinstance(verdict, TempFail), verdict

    def test_left_over(self) -> None:
        """What a crash has left half-written goes at the next start."""
        unfinished = self.directory / "tmp"
        unfinished.mkdir(parents=True)
        (unfinished / "X").write_text("half")
        quarantine.load(self.site(quarantine=f"quarantine_path={self.directory}\n"))
        self.assertEqual(self.files(), [])


class TestQueueTests(QueueCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        site = self.site()
        self.plugin = queue_test.TestQueue(self.directory, site.call_in_thread)
        self.assertIsInstance(queue_test.load(site), queue_test.TestQueue)

    def test_taken(self) -> None:
        """Each message is a file, as it would be delivered."""
        self.assertEqual(self.queue(self.plugin), ACCEPT)
        file = self.directory / "mail_C0FFEE.1.eml"
        self.assertEqual(file.read_bytes(), self.message.content)

    def test_a_link_in_the_way(self) -> None:
        """In a directory that all may write to, nobody's file is written over."""
        victim = self.directory / "victim"
        victim.write_text("mine")
        (self.directory / "mail_C0FFEE.1.eml").symlink_to(victim.absolute())
        self.assertIsInstance(self.queue(self.plugin), TempFail)
        self.assertEqual(victim.read_text(), "mine")

    def test_other_mail(self) -> None:
        """Mail of clients that may relay goes on."""
        self.assertEqual(self.queue(self.plugin, relaying=True), CONTINUE)
