"""XCLIENT: the same dialogue of swaks with Postfix and with us comes to the same."""

import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.postfix import Postfix
from tests.support import DEFAULT_PLUGINS, Instance, need

RELAYING, OTHER = "203.0.113.9", "198.51.100.9"
US, FOREIGN = "me@mx.test", "me@elsewhere.test"


class XClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        need("swaks", "postfix")
        networks = "203.0.113.0/24"
        self.postfix = Postfix(
            "mx.test",
            {
                "mynetworks": networks,
                "smtpd_authorized_xclient_hosts": "127.0.0.1",
                "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
                "smtpd_tls_security_level": "none",
            },
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()
        files = {"plugins": f"xclient\n{DEFAULT_PLUGINS}", "relay_acl_allow": networks}
        self.instance = Instance.make("mx.test", files)
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def swaks(self, port: int, *args: str) -> "subprocess.CompletedProcess[str]":
        command = ["swaks", "--server", "127.0.0.1", "--port", str(port), "--timeout", "20"]
        command += ["--ehlo", "client.test", "--from", "you@client.test", *args]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def test_same_outcome(self) -> None:
        """Who may relay, who may not, and what is malformed."""
        for address, recipient, status in (
            (RELAYING, FOREIGN, 0),
            (OTHER, FOREIGN, 24),  # no recipient accepted
            (OTHER, US, 0),
            ("nonsense", US, 33),  # XCLIENT refused
            ("203.0.113.9+0D+0A", US, 33),
        ):
            args = ("--xclient-addr", address, "--to", recipient, "--quit-after", "RCPT")
            for server in (self.postfix, self.instance):
                done = self.swaks(server.port, *args)
                self.assertEqual(done.returncode, status, done.stdout + done.stderr)

    def test_received(self) -> None:
        """Name and address are those that were told."""
        args = ("--xclient-addr", OTHER, "--xclient-name", "c.example", "--to", US)
        for server in (self.postfix, self.instance):
            done = self.swaks(server.port, *args, "--header", "Subject: told")
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            received = " ".join(server.wait_for_mail("told").split())
            self.assertIn(f"from client.test (c.example [{OTHER}])", received)
        self.assertIn(f" {OTHER}:0 name=c.example xclient=127.0.0.1:", self.instance.log())

    def test_inside_tls(self) -> None:
        """XCLIENT leaves TLS as it is."""
        done = self.swaks(
            self.instance.port,
            *("--tls", "--xclient-addr", OTHER, "--to", US, "--header", "Subject: in TLS"),
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        received = " ".join(self.instance.wait_for_mail("in TLS").split())
        self.assertIn(f"([{OTHER}])", received)
        self.assertIn("with ESMTPS id", received)

    def test_not_allowed(self) -> None:
        """Who is not listed is not offered it, and cannot have it."""
        for force, status in (("--xclient-no-verify", 33), ("--xclient-optional", 0)):
            done = self.swaks(
                self.instance.port,
                *("--local-interface", "127.0.0.5", "--xclient-addr", RELAYING, "--to", US),
                *(force, "--quit-after", "RCPT"),
            )
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            self.assertNotIn("250-XCLIENT", done.stdout)
