"""OpenSSL's responder gives, the running server staples, OpenSSL's client looks."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance, free_port, need, run_harakatls, wait_until
from tests.tls.peers import key_pem
from tests.tls.responding import Holder, certify, key_of, root
from tests.wire.server_case import send

VERSIONS = ("-tls1_2", "-tls1_3")
KINDS = {"EC": "ECDSA+SHA256", "RSA": "RSA-PSS+SHA256:RSA+SHA256"}
INI = """
requestOCSP=true
ecdhCurve=auto
key[]=ec_key.pem
cert[]=ec_cert.pem
key[]=rsa_key.pem
cert[]=rsa_cert.pem
"""
FROM_THE_FUTURE = "400101000000Z"


def serial(holder: Holder) -> str:
    """As OpenSSL writes it."""
    digits = f"{holder.certificate.serial_number:X}"
    return "0" * (len(digits) % 2) + digits


class Responder:
    """C{openssl ocsp}, which knows these certificates."""

    def __init__(self, directory: Path, port: int, *holders: Holder) -> None:
        self.directory, self.port, self.holders = directory, port, holders
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "ca.pem").write_bytes(root().pem)
        (directory / "ca.key").write_bytes(key_pem(root().key))
        self.know("V\t" + FROM_THE_FUTURE + "\t")

    def know(self, state: str) -> None:
        """What to say of them, as the first fields in the file of an authority of OpenSSL's."""
        numbers = map(serial, self.holders)
        lines = (f"{state}\t{number}\tunknown\t/CN={number}\n" for number in numbers)
        (self.directory / "index.txt").write_text("".join(lines))

    def start(self) -> None:
        where = ["-index", "index.txt", "-port", str(self.port), "-CA", "ca.pem"]
        self.process = subprocess.Popen(
            ["openssl", "ocsp", *where, "-rsigner", "ca.pem", "-rkey", "ca.key", "-nmin", "600"],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        told = self.process.stderr.readline()  # when it listens
        assert b"waiting" in told, told

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class StaplingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        need("openssl")
        self.responder_port = free_port()
        url = f"http://127.0.0.1:{self.responder_port}/"
        self.holders = {kind: certify("mx.test", key_of(kind), root(), url=url) for kind in KINDS}
        self.instance = Instance.make("mx.test", {"tls.ini": INI})
        self.addCleanup(self.instance.remove)
        for kind, holder in self.holders.items():
            name = self.instance.config / kind.lower()
            Path(f"{name}_cert.pem").write_bytes(holder.pem + root().pem)
            Path(f"{name}_key.pem").write_bytes(key_pem(holder.key))
        self.instance.authority.write_bytes(root().pem)

    def look(self, version: str, kind: str, implicit_tls: bool = False) -> str:
        """What s_client tells about a handshake with this kind of certificate."""
        port = self.instance.smtps_port if implicit_tls else self.instance.port
        done = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-status"),
                *("-servername", "mx.test", "-CAfile", str(self.instance.authority)),
                *("-sigalgs", KINDS[kind], "-verify_return_error"),
                *(() if implicit_tls else ("-starttls", "smtp")),
            ],
            input=b"QUIT\r\n",
            capture_output=True,
            timeout=20,
        )
        return done.stdout.decode(errors="replace")

    def assert_stapled(self, version: str, kind: str, implicit_tls: bool = False) -> None:
        told = self.look(version, kind, implicit_tls)
        self.assertIn("OCSP Response Status: successful (0x0)", told)
        self.assertIn("Cert Status: good", told)
        self.assertIn(f"Serial Number: {serial(self.holders[kind])}", told)
        self.assertIn("Verify return code: 0 (ok)", told)

    def wait_for_log(self, words: str, times: int = 1) -> None:
        wait_until(lambda: self.instance.log().count(words) >= times, f"{words!r} in the log")


class OpenSSLResponderTests(StaplingTestCase):
    def setUp(self) -> None:
        super().setUp()
        responder = Responder(self.instance.directory, self.responder_port, *self.holders.values())
        self.responder = responder
        self.addCleanup(responder.stop)
        responder.start()
        self.instance.start()

    def test_stapled(self) -> None:
        """Each certificate comes with its own staple; and at once after a restart, responder or no.

        Nothing is asked in a handshake: the responder is gone by then.
        """
        self.wait_for_log("there is an OCSP staple", 2)
        self.responder.stop()
        for _ in range(2):
            for version in VERSIONS:
                for kind in KINDS:
                    self.assert_stapled(version, kind)
            self.assert_stapled("-tls1_3", "EC", implicit_tls=True)
            self.instance.stop()
            self.instance.start()
        self.assertNotIn("[ERROR]", self.instance.log())
        self.assertNotIn("[WARN]", self.instance.log())

    def test_revoked(self) -> None:
        """A certificate that has been revoked raises an alarm; mail goes on."""
        self.wait_for_log("there is an OCSP staple", 2)
        self.instance.stop()
        self.responder.stop()
        self.responder.know(f"R\t{FROM_THE_FUTURE}\t200101000000Z")
        self.responder.start()
        shutil.rmtree(self.instance.directory / "queue" / "ocsp")
        self.instance.start()
        self.wait_for_log("has been REVOKED", 2)
        self.assertIn("Cert Status: revoked", self.look("-tls1_3", "EC"))
        done = run_harakatls("tls", "--config", self.instance.config)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ec_cert.pem with ec_key.pem: the certificate is revoked since", done.stdout)
        send(self.instance, "all the same", starttls=False)
        self.instance.wait_for_mail("all the same")

    def renew(self, kind: str, responder_starts: bool) -> None:
        """@param responder_starts: it reads what it knows when it starts alone."""
        url = f"http://127.0.0.1:{self.responder_port}/"
        holder = certify("mx.test", key_of(kind), root(), url=url)
        self.holders[kind] = holder
        self.responder.holders = tuple(self.holders.values())
        self.responder.know(f"V\t{FROM_THE_FUTURE}\t")
        if responder_starts:
            self.responder.start()
        (self.instance.config / f"{kind.lower()}_cert.pem").write_bytes(holder.pem + root().pem)
        os.kill(self.instance.pid, signal.SIGHUP)

    def test_away_for_a_while(self) -> None:
        """A certificate that is renewed while the responder is down goes without; others do not."""
        self.wait_for_log("there is an OCSP staple", 2)
        self.responder.stop()
        self.renew("RSA", responder_starts=False)
        self.wait_for_log("there is no OCSP staple")
        self.assertIn("OCSP response: no response sent", self.look("-tls1_3", "RSA"))
        self.assert_stapled("-tls1_3", "EC")
        self.renew("RSA", responder_starts=True)
        self.wait_for_log("there is an OCSP staple", 3)
        for kind in KINDS:
            self.assert_stapled("-tls1_2", kind)


class HostileResponderTests(StaplingTestCase):
    def flood(self) -> None:
        """To each who comes, what looks like a response of 100 MB."""
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    while self.sent < 100_000_000:
                        peer.sendall(bytes(100_000))
                        self.sent += 100_000
                except OSError:
                    pass

    def test_flood(self) -> None:
        """A responder that sends without end is left after little; clients notice nothing."""
        self.sent = 0
        self.listener = socket.create_server(("127.0.0.1", self.responder_port))
        self.addCleanup(self.listener.close)
        thread = threading.Thread(target=self.flood, daemon=True)
        thread.start()
        self.instance.start()
        self.wait_for_log("has more than 65536 octets", 2)
        self.assertLess(self.sent, 50_000_000)
        self.assertIn("OCSP response: no response sent", self.look("-tls1_3", "EC"))
        send(self.instance, "all the same", starttls=False)
        self.instance.wait_for_mail("all the same")

    def test_silent(self) -> None:
        """One that never answers keeps neither a client nor the end of the server waiting."""
        self.listener = socket.create_server(("127.0.0.1", self.responder_port))
        self.addCleanup(self.listener.close)
        self.instance.start()
        peer, _ = self.listener.accept()
        self.addCleanup(peer.close)
        self.assertIn("OCSP response: no response sent", self.look("-tls1_2", "RSA"))
        send(self.instance, "at once", starttls=False)
        self.instance.wait_for_mail("at once")
        self.instance.stop()

    def test_down(self) -> None:
        """Without a responder there is mail, and an error for each certificate in the log."""
        self.instance.start()
        self.wait_for_log("there is no OCSP staple", 2)
        send(self.instance, "all the same", starttls=False)
        self.instance.wait_for_mail("all the same")
