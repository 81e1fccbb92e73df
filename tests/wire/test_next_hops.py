"""TLS with a next hop that is a program of its own: sessions, and certificates of ours."""

import smtplib

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, temporary_directory, wait_until
from tests.wire.sink import Sink

TEXT = "Message-ID: <{0}@mx.test>\r\nSubject: {0}\r\n\r\nHello\r\n"
ALONE = "pool_timeout=0\n"  # each message on a connection of its own
ROUTE = '[domains]\nany={{"nexthop":"127.0.0.1:{}"}}\n'


class NextHopTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = temporary_directory()
        self.certificates = Certificates()
        self.authority = self.certificates.write_authority(directory / "ca.pem")
        self.sink = Sink(*self.certificates.write_pair(directory, "127.0.0.1"))
        self.addCleanup(self.sink.close)

    def start(self, tls_ini: str, outbound_ini: str = "") -> None:
        """A server that relays all mail to the sink."""
        self.instance = Instance.make(
            files={
                "tls.ini": tls_ini,
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": ROUTE.format(self.sink.port),
                "outbound.ini": f"temp_fail_intervals=5s*9\nlocal_mx_ok=true\n{outbound_ini}",
            }
        )
        self.addCleanup(self.instance.remove)
        (self.instance.config / "tls").mkdir()
        pair = self.certificates.authority.issue_cert("ours.test", common_name="ours.test")
        bundle = pair.private_key_and_cert_chain_pem.bytes()
        (self.instance.config / "tls" / "ours.pem").write_bytes(bundle)
        self.instance.start()

    def send(self, subject: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.sendmail("you@example.org", ["x@elsewhere.test"], TEXT.format(subject))

    def delivered(self, subject: str) -> None:
        name = f"<{subject}@mx.test>"
        wait_until(lambda: self.sink.messages[name], f"message {subject}: {self.instance.log()}")

    def test_sessions(self) -> None:
        """The second connection resumes the session of the first, and is as verified."""
        self.start(f"[outbound]\nca={self.authority}\nforce_tls_hosts[]=127.0.0.1\n", ALONE)
        for number in range(4):
            self.send(f"m{number}")
            self.delivered(f"m{number}")
            # It is kept when the host has answered EHLO, and good when the goodbye is over.
            wait_until(lambda n=number: self.instance.log().count("delivered ") > n, "line")  # type: ignore[misc]
        self.assertEqual(self.sink.resumed, [False, True, True, True])
        self.assertEqual(self.instance.log().count("verified=True"), 4)
        self.assertEqual(self.sink.in_clear, 0)

    def test_reuse(self) -> None:
        """Messages go out on one connection, which may break while it rests: no matter."""
        self.start("", "pool_timeout=60\n")
        for number in range(6):
            if number == 3:
                self.sink.drop()
            self.send(f"m{number}")
            self.delivered(f"m{number}")
            wait_until(lambda n=number: self.instance.log().count("delivered ") > n, "line")  # type: ignore[misc]
        self.assertEqual(len(self.sink.connections), 2)
        self.assertEqual((len(self.sink.resumed), self.sink.in_clear), (2, 0))
        log = self.instance.log()
        self.assertEqual(log.count("reused=Y"), 4)
        self.assertNotIn("deferred", log)

    def test_certificate(self) -> None:
        """A host that demands one refuses us in plain words, until a rule says which to show."""
        self.sink.demand(self.authority)
        forced = f"[outbound]\nca={self.authority}\nforce_tls_hosts[]=127.0.0.1\n"
        self.start(forced)
        self.send("first")
        words = "the peer wants a certificate from us"
        wait_until(lambda: words in self.instance.log(), f"words: {self.instance.log()}")
        self.assertEqual(self.sink.clients, [])
        rule = "[mutual_auth_hosts]\n127.0.0.0/8=ours.test ; they insist\n"
        (self.instance.config / "tls.ini").write_text(forced + rule)
        self.delivered("first")
        self.assertEqual(self.sink.clients[-1], "ours.test")
        self.assertEqual(self.sink.in_clear, 0)
        reason = "our certificate ours.test is shown"
        wait_until(lambda: reason in self.instance.log(), f"reason: {self.instance.log()}")
