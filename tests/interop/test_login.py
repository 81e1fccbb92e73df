"""The running server logs in to Postfix, which asks Dovecot for passwords."""

from tests.interop.dovecot import Dovecot
from tests.interop.postfix import Postfix
from tests.interop.relaying import RelayCase
from tests.support import Certificates, run_harakatls, temporary_directory, wait_until

USER = "relay@dest.test"
SOCKET = """
auth_mechanisms = {mechanisms}
service auth {{
  unix_listener {path} {{
    mode = 0666
  }}
}}
"""


class LoginTests(RelayCase):
    """Postfix takes mail from nobody who has not logged in, and offers AUTH inside of TLS alone."""

    postfix: Postfix

    def start(self, mechanisms: str, password: str = "x", **hop: object) -> None:
        """@param mechanisms: that Postfix offers; the password is "x"."""
        socket = temporary_directory() / "auth"
        dovecot = Dovecot(USER, settings=SOCKET.format(mechanisms=mechanisms, path=socket))
        self.addCleanup(dovecot.remove)
        dovecot.start()
        certificates = Certificates()
        cert, key = certificates.write_pair(temporary_directory(), "localhost")
        self.postfix = Postfix(
            "dest.test",
            {
                "smtpd_tls_security_level": "may",
                "smtpd_tls_chain_files": f"{key}, {cert}",
                "smtpd_tls_auth_only": "yes",
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "dovecot",
                "smtpd_sasl_path": str(socket),
                "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
                "smtpd_client_restrictions": "permit_sasl_authenticated, reject",
                "smtpd_delay_reject": "yes",
            },
        )
        self.addCleanup(self.postfix.remove)
        self.postfix.start()
        route = {
            "exchange": "localhost",
            "port": self.postfix.port,
            "auth_user": USER,
            "auth_pass": password,
            **hop,
        }
        self.start_instance({"any": route}, {"outbound.ini": "temp_fail_intervals=1h\n"})

    def check_delivered(self, mechanism: str) -> None:
        self.send(mechanism)
        self.postfix.wait_for_mail(mechanism)
        line = self.postfix.wait_for_log("sasl_method=")
        self.assertIn(f"sasl_method={mechanism}, sasl_username={USER}", line)

    def test_scram(self) -> None:
        """The best of four: neither side says the password."""
        self.start("plain login cram-md5 scram-sha-256")
        self.check_delivered("SCRAM-SHA-256")

    def test_cram_md5(self) -> None:
        """Where there is no SCRAM."""
        self.start("plain login cram-md5")
        self.check_delivered("CRAM-MD5")

    def test_plain(self) -> None:
        """What most providers offer."""
        self.start("login plain")
        self.check_delivered("PLAIN")

    def test_login(self) -> None:
        """Because the operator says so."""
        self.start("plain login scram-sha-256", auth_type="login")
        self.check_delivered("LOGIN")

    def test_a_wrong_password_is_said_once(self) -> None:
        """However much mail waits for it: Postfix must not lock the account."""
        self.start("plain", password="wr0ng-passw0rd")
        for number in range(5):
            self.send(f"number {number}")
        wait_until(lambda: self.instance.queue_list().count("4.7.8") >= 5, "five reasons", 30)
        self.assertEqual(self.postfix.log().count("authentication failed"), 1)
        self.assertIn("not asked: it refused our login with PLAIN", self.instance.queue_list())
        shown = run_harakatls("queue", "show", "--config", self.instance.config, "*").stdout
        self.assertRegex(shown, r"not asked: it refused our login .* asked again from \d\d:\d\d")

    def test_a_wrong_password(self) -> None:
        """The mail waits, with a reason that says whose mistake it is; the password is nowhere."""
        self.start("plain scram-sha-256", password="wr0ng-passw0rd")
        self.send("stays here")
        wait_until(lambda: "4.7.8" in self.instance.queue_list(), "reason in the queue", 30)
        shown = self.instance.queue_list() + self.instance.log()
        self.assertIn("localhost refused our login with SCRAM-SHA-256: 535 5.7.8", shown)
        self.assertNotIn("wr0ng-passw0rd", shown)
        self.assertNotIn("from=<sender@client.test>", self.postfix.log())
        for file in (self.instance.directory / "queue").rglob("*"):
            if file.is_file():
                self.assertNotIn(b"wr0ng-passw0rd", file.read_bytes())
