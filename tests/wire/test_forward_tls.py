"""What queue/smtp_forward leaves to the queue goes to its back end as tls.ini says for it."""

import smtplib

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Certificates, Instance, temporary_directory, wait_until
from tests.wire.sink import Sink

TEXT = "Message-ID: <m@mx.test>\r\nSubject: m\r\n\r\nHello\r\n"
FORCED = "[smtp_forward]\nca={}\nforce_tls_hosts[]=127.0.0.1\n"


class ForwardTLSTests(SynchronousTestCase):
    """A client that may relay sends to one of our own people: that waits in the queue."""

    def start(self, sink: Sink, authority: object) -> None:
        self.sink = sink
        self.addCleanup(sink.close)
        self.instance = Instance.make(
            files={
                "plugins": "relay\nrcpt_to.in_host_list\nqueue/smtp_forward\n",
                "relay_acl_allow": "127.0.0.1\n",
                "smtp_forward.ini": f"host=127.0.0.1\nport={sink.port}\nenable_tls=true\n",
                "tls.ini": FORCED.format(authority),
                "outbound.ini": "temp_fail_intervals=5s*9\n",
            }
        )
        self.addCleanup(self.instance.remove)
        self.instance.start()
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.sendmail("you@example.org", ["x@mx.test"], TEXT)

    def test_never_in_the_clear(self) -> None:
        """force_tls_hosts of the section holds for the queue as well."""
        directory = temporary_directory()
        authority = Certificates().write_authority(directory / "ca.pem")
        self.start(Sink(), authority)

        def tried() -> bool:
            return "does not offer STARTTLS" in self.instance.log() or bool(self.sink.messages)

        wait_until(tried, f"an attempt: {self.instance.log()}")
        self.assertFalse(self.sink.messages)

    def test_with_a_valid_certificate(self) -> None:
        """So does what the section trusts."""
        directory, certificates = temporary_directory(), Certificates()
        authority = certificates.write_authority(directory / "ca.pem")
        self.start(Sink(*certificates.write_pair(directory, "127.0.0.1")), authority)
        wait_until(lambda: self.sink.messages["<m@mx.test>"], f"mail: {self.instance.log()}")
        self.assertEqual(self.sink.in_clear, 0)
        wait_until(lambda: "verified=True" in self.instance.log(), f"line: {self.instance.log()}")
