"""Postfix hands mail on to the running server."""

import smtplib

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.postfix import Postfix
from tests.support import need
from tests.wire.clients import RECIPIENT, SENDER, DeliveryScenarios


class PostfixRelaysTests(DeliveryScenarios, SynchronousTestCase):
    """With TLS that must be, as operators demand it between their own servers."""

    postfix: Postfix

    def setUp(self) -> None:
        need("postfix")
        super().setUp()

    def start_postfix(self, port: int, **settings: str) -> None:
        self.postfix = Postfix(
            "postfix.test",
            {
                "relayhost": f"[127.0.0.1]:{port}",
                "smtp_tls_CAfile": str(self.instance.authority),
                **settings,
            },
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()

    def hand_over(self, subject: str) -> None:
        """Give Postfix the message that it has to relay."""
        with smtplib.SMTP("127.0.0.1", self.postfix.port, "client.test", timeout=20) as client:
            client.sendmail(SENDER, [RECIPIENT], self.text(subject))

    def send(self, subject: str, implicit_tls: bool) -> None:
        wrapped = {"smtp_tls_wrappermode": "yes"} if implicit_tls else {}
        self.start_postfix(self.port(implicit_tls), smtp_tls_security_level="encrypt", **wrapped)
        self.hand_over(subject)
        line = self.postfix.wait_for_log(f"to=<{RECIPIENT}>")
        self.assertIn("status=sent (250 2.", line)
        self.assertRegex(self.postfix.log(), r"TLS connection established to .*: TLSv1\.[23] with")

    def test_certificate_is_verified(self) -> None:
        """Postfix at level "secure" finds our name in our certificate."""
        self.start_postfix(
            self.instance.port,
            smtp_tls_security_level="secure",
            smtp_tls_secure_cert_match="mx.test",
        )
        self.hand_over("secure")
        self.check("secure")
        self.assertIn("Verified TLS connection established", self.postfix.log())

    def test_connection_is_used_again(self) -> None:
        """Postfix may send many messages over one connection that it has secured once."""
        self.start_postfix(
            self.instance.port,
            smtp_tls_security_level="encrypt",
            smtp_tls_connection_reuse="yes",
            smtp_connection_cache_on_demand="yes",
            smtp_connection_cache_destinations=f"[127.0.0.1]:{self.instance.port}",
        )
        for number in range(3):
            self.hand_over(f"message {number}")
            self.check(f"message {number}")
        self.assertIn("status=sent", self.postfix.log())
        self.assertNotIn("status=deferred", self.postfix.log())
