"""Certificates replaced beneath a running server, as clients on the wire see it."""

import errno
import os
import signal
import smtplib
import socket
import ssl
import threading
import time
from pathlib import Path

from cryptography.x509 import load_der_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, run_harakatls, wait_until

HANDSHAKES = 300
CLIENTS = 4


class ReloadTests(SynchronousTestCase):
    def instance(self, **files: str) -> Instance:
        named = {name.replace("_ini", ".ini"): text for name, text in files.items()}
        self.certificates = Certificates()
        instance = Instance.make(files=named, certificates=self.certificates)
        self.addCleanup(instance.remove)
        return instance

    def serial(self, instance: Instance, session: ssl.SSLSession | None = None) -> int:
        """Of the certificate that is shown, which is good, and by a server that greets."""
        trust = ssl.create_default_context(cafile=str(instance.authority))
        with (
            socket.create_connection(("127.0.0.1", instance.smtps_port), timeout=20) as plain,
            trust.wrap_socket(plain, server_hostname="mx.test", session=session) as peer,
        ):
            assert peer.recv(1000).startswith(b"220 ")
            peer.sendall(b"QUIT\r\n")
            octets = peer.getpeercert(binary_form=True)
        assert octets is not None
        return load_der_x509_certificate(octets).serial_number

    def write_pair(self, directory: Path) -> int:
        """@return: its serial number."""
        cert, _ = self.certificates.write_pair(directory, "mx.test", "127.0.0.1")
        return self.serial_of(cert)

    def serial_of(self, cert: Path) -> int:
        return load_der_x509_certificate(
            ssl.PEM_cert_to_DER_cert(
                cert.read_text().partition("-----END CERTIFICATE-----")[0]
                + "-----END CERTIFICATE-----\n"
            )
        ).serial_number

    def reloaded(self, instance: Instance, told: str, times: int = 1) -> None:
        """Let the server reload, and wait for what it says of it."""
        os.kill(instance.pid, signal.SIGHUP)
        wait_until(lambda: instance.log().count(told) >= times, f"{told!r} in the log")

    def test_by_itself(self) -> None:
        """A certificate that is renewed is shown within five seconds, with nobody telling us."""
        instance = self.instance()
        instance.start()
        serial = self.write_pair(instance.config)
        began = time.monotonic()
        wait_until(lambda: self.serial(instance) == serial, "new certificate", 8)
        self.assertLess(time.monotonic() - began, 5.5)
        self.assertIn(f"serial {serial:02X}", instance.log())

    def test_links(self) -> None:
        """So is one to which a link is turned, as Kubernetes does it."""
        instance = self.instance(tls_ini="key=now/tls_key.pem\ncert=now/tls_cert.pem\n")
        one, two = instance.config / "..one", instance.config / "..two"
        for directory in (one, two):
            directory.mkdir()
        serials = [self.write_pair(directory) for directory in (one, two)]
        (instance.config / "now").symlink_to("..one")
        instance.start()
        self.assertEqual(self.serial(instance), serials[0])
        (instance.config / "new").symlink_to("..two")
        os.replace(instance.config / "new", instance.config / "now")
        wait_until(lambda: self.serial(instance) == serials[1], "new certificate", 8)

    def test_hangup(self) -> None:
        """SIGHUP reloads at once in the foreground, and names what it does not reload."""
        instance = self.instance()
        instance.start()
        serial = self.write_pair(instance.config)
        (instance.config / "connection.ini").write_text("[max]\nbytes=1M\n")
        os.kill(instance.pid, signal.SIGHUP)
        wait_until(lambda: f"serial {serial:02X}" in instance.log(), "line in the log", 1.5)
        self.assertEqual(self.serial(instance), serial)
        wait_until(lambda: "connection.ini has changed; restart" in instance.log(), "hint")

    def test_port_opens(self) -> None:
        """
        The port that was not opened for want of a certificate is, once there is one. It is ours
        from the start, since later the server may have no right to it any more.
        """
        instance = self.instance()
        (instance.config / "tls_cert.pem").unlink()
        instance.start()
        self.assertRaises(ConnectionRefusedError, self.serial, instance)
        with socket.socket() as other:
            taken = self.assertRaises(OSError, other.bind, ("127.0.0.1", instance.smtps_port))
        self.assertEqual(taken.errno, errno.EADDRINUSE)
        serial = self.write_pair(instance.config)
        os.kill(instance.pid, signal.SIGHUP)
        log = f"listening on 127.0.0.1:{instance.smtps_port}"
        wait_until(lambda: log in instance.log(), "open port")
        self.assertEqual(self.serial(instance), serial)
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.starttls(context=ssl.create_default_context(cafile=str(instance.authority)))

    def test_port_is_taken(self) -> None:
        """What cannot be opened when the certificate comes is tried again with each reload."""
        instance = self.instance()
        (instance.config / "tls_cert.pem").unlink()
        instance.start()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", instance.smtps_port))
            other.listen()
            serial = self.write_pair(instance.config)
            self.reloaded(instance, "a certificate has come, but")
            self.reloaded(instance, "a certificate has come, but", 2)
        self.reloaded(instance, f"listening on 127.0.0.1:{instance.smtps_port}")
        self.assertEqual(self.serial(instance), serial)

    def test_under_load(self) -> None:
        """
        While certificates are replaced all the time, and broken in between, every handshake
        succeeds: with one pair or another, never with a key of one and a certificate of the other.
        """
        instance = self.instance()
        serials = {self.serial_of(instance.config / "tls_cert.pem")}
        instance.start()
        seen: list[int] = []
        problems: list[BaseException] = []

        def shake_hands() -> None:
            while len(seen) < HANDSHAKES and not problems:
                try:
                    seen.append(self.serial(instance))
                except BaseException as problem:
                    problems.append(problem)

        threads = [threading.Thread(target=shake_hands) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            refusals = instance.log().count("is not used")
            (instance.config / "tls_cert.pem").write_text("-----BEGIN CERTIFICATE-----\n")
            self.reloaded(instance, "is not used", refusals + 1)
            serial = self.write_pair(instance.config)
            serials.add(serial)
            self.reloaded(instance, f"serial {serial:02X}, valid")
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        self.assertGreaterEqual(len(seen), HANDSHAKES)
        self.assertLessEqual(set(seen), serials)
        self.assertGreater(len(set(seen)), 2)
        self.assertNotIn("Traceback", instance.log())
        self.assertNotIn("TLS handshake failed", instance.log())


class RequiredTests(SynchronousTestCase):
    def test_port(self) -> None:
        """On a port with required TLS, mail comes over TLS and not before."""
        instance = Instance.make()
        self.addCleanup(instance.remove)
        (instance.config / "tls.ini").write_text(
            f"[inbound]\nrequire_tls_ports[]={instance.port}\n"
        )
        instance.start()
        told = (530, b"5.7.0 Must issue a STARTTLS command first")
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            self.assertEqual(client.helo("client.test"), told)
            self.assertEqual(client.ehlo("client.test")[0], 250)
            self.assertEqual(client.mail("you@example.org"), told)
            client.starttls(context=ssl.create_default_context(cafile=str(instance.authority)))
            client.sendmail("you@example.org", ["me@mx.test"], "Subject: required\r\n\r\nHi\r\n")
        instance.wait_for_mail("required")

    def test_host(self) -> None:
        """So it is for clients of the networks that are named, and for no other."""
        for network, code in (("127.0.0.0/8", 530), ("192.0.2.0/24", 250)):
            instance = Instance.make(
                files={"tls.ini": f"[inbound]\nrequire_tls_hosts[]={network}\n"}
            )
            self.addCleanup(instance.remove)
            instance.start()
            with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
                client.ehlo("client.test")
                self.assertEqual(client.mail("you@example.org")[0], code)


class CommandTests(SynchronousTestCase):
    def test_status(self) -> None:
        """`harakatls tls` ends with 0 where all is well, and with 1 where anything is wrong."""
        instance = Instance.make()
        self.addCleanup(instance.remove)
        done = run_harakatls("tls", "--config", instance.config)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn("No mistakes.", done.stdout)
        (instance.config / "tls_key.pem").write_text("")
        for options in ((), ("--json",)):
            done = run_harakatls("tls", *options, "--config", instance.config)
            self.assertEqual((done.returncode, done.stderr), (1, ""))
            self.assertIn("tls_key.pem: the file is empty", done.stdout)
        done = run_harakatls("tls", "--config", instance.config / "nowhere")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
