"""sslyze compares the TLS of the shipped settings with what Mozilla recommends."""

import json
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.scanned import NAME, scanned_instance
from tests.support import REPOSITORY, Instance, need

# In a virtual environment of its own, which `make interop` makes: it wants older libraries than we.
HOME = REPOSITORY / ".venv.sslyze"
SSLYZE = HOME / "bin" / "sslyze"
PROFILES = "lib/python3*/site-packages/sslyze/mozilla_tls_profile/*.json"
LIMIT = 120  # seconds; it takes about ten

# Left out of Mozilla's "intermediate", which is for browsers' servers:
# - ciphers with CBC or without forward secrecy that Mozilla's "old" still has: mail servers that
#   know none better would send in the clear;
# - for the same reason those two that the oldest OpenSSL has with forward secrecy;
ALSO_CIPHERS_OF = "old"
ALSO_CIPHERS = ("TLS_DHE_RSA_WITH_AES_128_CBC_SHA", "TLS_DHE_RSA_WITH_AES_256_CBC_SHA")
NEVER = "3DES"
# - the two curves of the library's that are stronger than any that Mozilla lists.
ALSO_CURVES = ("secp521r1", "X448")

# What Mozilla says nothing about, by the names that sslyze gives them.
CLAIMS: dict[str, dict[str, bool | str]] = {
    "tls_1_3_early_data": {"supports_early_data": False},
    "session_renegotiation": {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
    },
    "session_resumption": {"tls_ticket_resumption_result": "FULLY_SUPPORTED"},
    "robot": {"robot_result": "NOT_VULNERABLE_NO_ORACLE"},
}
AUTHORITY = "Supplied CA file"  # of sslyze's trust stores, the one that knows the authority


def profile() -> dict[str, Any]:
    """Mozilla's recommendation, as sslyze has it, with what is said above."""
    (path,) = HOME.glob(PROFILES)
    configurations = json.loads(path.read_text())["configurations"]
    wanted: dict[str, Any] = configurations["intermediate"]
    more = [
        name for name in configurations[ALSO_CIPHERS_OF]["ciphers"]["iana"] if NEVER not in name
    ]
    wanted["ciphers"]["iana"] += [*more, *ALSO_CIPHERS]
    wanted["tls_curves"] += ALSO_CURVES
    return wanted


class SSLyzeTests(SynchronousTestCase):
    instance: Instance

    def setUp(self) -> None:
        need(str(SSLYZE))
        self.instance = scanned_instance()
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def scan(self, port: int, *options: str) -> tuple[int, str, dict[str, Any]]:
        """@return: the exit status, what it says of the profile, and its report."""
        report = self.path("sslyze.json")
        wanted = self.path("profile.json")
        wanted.write_text(json.dumps(profile()))
        done = subprocess.run(
            [
                *(SSLYZE, "--sni", NAME, "--custom_tls_config", wanted, "--json_out", report),
                *("--certinfo_ca_file", self.instance.authority),
                *("--early_data", "--resum", *options, f"127.0.0.1:{port}"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert report.exists(), done.stdout + done.stderr
        (server,) = json.loads(report.read_text())["server_scan_results"]
        found: dict[str, Any] = server["scan_result"]
        return done.returncode, done.stdout.partition("COMPLIANCE")[2], found

    def path(self, name: str) -> Path:
        return self.instance.directory / name

    def assert_sound(self, port: int, *options: str) -> None:
        status, told, found = self.scan(port, *options)
        self.assertEqual(status, 0, told)
        self.assertIn("OK - Compliant", told)
        for name, claims in CLAIMS.items():
            self.assertEqual(found[name]["status"], "COMPLETED", name)
            result = found[name]["result"]
            self.assertEqual({claim: result[claim] for claim in claims}, claims)
        shown = found["certificate_info"]["result"]["certificate_deployments"]
        self.assertEqual(len(shown), 2)
        for chain in shown:
            trusted = {
                path["trust_store"]["name"]: path["was_validation_successful"]
                for path in chain["path_validation_results"]
            }
            self.assertTrue(trusted[AUTHORITY])
            self.assertTrue(chain["received_chain_has_valid_order"])

    def test_starttls(self) -> None:
        """Behind STARTTLS all is as Mozilla recommends it, with both certificates."""
        self.assert_sound(self.instance.port, "--starttls", "smtp")

    def test_implicit_tls(self) -> None:
        """And where TLS comes first."""
        self.assert_sound(self.instance.smtps_port)

    def test_poor_settings(self) -> None:
        """What is poor is found, so that it says something if nothing is."""
        tls_ini = self.instance.config / "tls.ini"
        tls_ini.write_text("minVersion=TLSv1\n" + tls_ini.read_text())
        self.instance.stop()
        self.instance.start()
        status, told, _ = self.scan(self.instance.smtps_port)
        self.assertEqual(status, 1, told)
        self.assertIn("TLSv1", told)
