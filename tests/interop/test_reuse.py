"""Many messages on one connection and one TLS session, as those who receive them see it."""

import json
import re
import signal
import smtplib
import socket
import subprocess
from pathlib import Path

from tests.interop.postfix import Postfix
from tests.interop.relaying import RECIPIENT, SENDER, RelayCase
from tests.support import Certificates, free_port, lacking, need, temporary_directory, wait_until

MESSAGES = 12
SOURCE = Path(__file__).resolve().parents[2] / "benchmarks/smtpsink.c"
DISCONNECT = re.compile(r"disconnect from \S+ (.*)")


class ReuseCase(RelayCase):
    """The next hop on this machine has a certificate for localhost that we trust, and must show."""

    def start_relaying(self, port: int, certificates: Certificates, outbound: str) -> None:
        authority = certificates.write_authority(temporary_directory() / "authority.pem")
        files = {
            "tls.ini": f"[outbound]\nca={authority}\nforce_tls_hosts[]=localhost\n",
            "outbound.ini": outbound,
        }
        self.start_instance({"dest.test": f"localhost:{port}"}, files)

    def send_all(self, client: smtplib.SMTP) -> None:
        """As one client that is in a hurry; each message has an id of its own."""
        for number in range(MESSAGES):
            text = f"Message-Id: <{number}@client.test>\r\nSubject: {number}\r\n\r\nA line.\r\n"
            client.sendmail(SENDER, [RECIPIENT], text)

    def delivered(self) -> list[str]:
        """The lines of our log about deliveries, when they are all there."""

        def lines() -> list[str]:
            found = [line for line in self.instance.log().splitlines() if "delivered " in line]
            return found if len(found) >= MESSAGES else []

        return wait_until(lines, "deliveries in our log", 30)


class PostfixTests(ReuseCase):
    def test_one_connection(self) -> None:
        """Postfix tells of each connection how often it heard what: STARTTLS once, MAIL always."""
        certificates = Certificates()
        cert, key = certificates.write_pair(temporary_directory(), "localhost")
        postfix = Postfix(
            "dest.test",
            {"smtpd_tls_security_level": "encrypt", "smtpd_tls_chain_files": f"{key}, {cert}"},
        )
        self.addCleanup(postfix.remove)
        postfix.start()
        # One delivery at a time; the connection is ended five seconds after the last.
        self.start_relaying(postfix.port, certificates, "pool_concurrency_max=1\n")
        with self.client() as client:
            self.send_all(client)
        delivered = self.delivered()
        self.assertEqual(sum("reused=Y" in line for line in delivered), MESSAGES - 1)
        postfix.wait_for_log(f"mail={MESSAGES}")
        counts = [
            dict(each.split("=") for each in found[1].split())
            for found in map(DISCONNECT.search, postfix.log().splitlines())
            if found is not None and "mail=" in found[1]
        ]
        (told,) = counts
        self.assertEqual(
            (told["ehlo"], told["starttls"], told["mail"], told["rcpt"], told["quit"]),
            ("2", "1", str(MESSAGES), str(MESSAGES), "1"),
        )


class SinkTests(ReuseCase):
    """smtpsink, which the measurements send to, counts connections, handshakes and messages."""

    def start_sink(self, certificates: Certificates) -> tuple["subprocess.Popen[str]", int]:
        need("cc")
        directory = temporary_directory()
        program = str(directory / "smtpsink")
        command = ["cc", "-O1", "-o", program, str(SOURCE), "-lssl", "-lcrypto"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if "openssl/" in made.stderr:
            lacking("the headers of OpenSSL")
        self.assertEqual(made.returncode, 0, made.stderr)
        cert, key = certificates.write_pair(directory, "localhost")
        port = free_port()
        sink = subprocess.Popen(
            [program, "--cert", str(cert), "--key", str(key), "--force-tls", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(sink.wait)
        self.addCleanup(sink.kill)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, "smtpsink")
        return sink, port

    def counts_after(self, outbound: str) -> dict[str, int]:
        """What the sink has counted when it has all messages. @param outbound: outbound.ini."""
        certificates = Certificates()
        sink, port = self.start_sink(certificates)
        self.start_relaying(port, certificates, outbound)
        with self.client() as client:
            self.send_all(client)
        self.delivered()
        self.instance.stop()
        sink.send_signal(signal.SIGINT)
        told, _ = sink.communicate(timeout=20)
        counts: dict[str, int] = json.loads(told)
        self.assertEqual(counts["tls_messages"], MESSAGES)
        self.assertEqual((counts["distinct"], counts["duplicates"]), (MESSAGES, 0))
        return counts

    def test_kept(self) -> None:
        """One handshake for all of them, where one delivery is made at a time."""
        counts = self.counts_after("pool_concurrency_max=1\n")
        self.assertEqual((counts["handshakes"], counts["resumed"]), (1, 0))

    def test_not_kept(self) -> None:
        """Without reuse each message has a connection of its own, and the session is resumed."""
        counts = self.counts_after("pool_concurrency_max=1\npool_timeout=0\n")
        self.assertEqual(counts["handshakes"], MESSAGES)
        self.assertEqual(counts["resumed"], MESSAGES - 1)
