"""testssl.sh looks for what is wrong with the TLS of the shipped settings."""

import json
import os
import signal
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.scanned import NAME, scanned_instance
from tests.support import Instance, need

TESTSSL = "testssl"
LIMIT = 240  # seconds; it takes about 60

# Protocols, kinds of ciphers, forward secrecy, certificates and the rest of the server's hello,
# vulnerabilities. Left out is what is no judgement (each cipher by itself, how old clients would
# fare), and the order of ciphers (-P), which takes longest and which tests.tls sees to.
CHECKS = ("-p", "-s", "-f", "-S", "-U")

# From the first one on, something is to be done. Below are DEBUG, INFO, OK and LOW, which is what
# it says of ciphers with CBC: these are there for servers that would send in the clear without
# them. WARN is about testssl.sh itself, as when its OpenSSL lacks an old algorithm.
GRAVE = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")

# What has to have been looked at for a report to count: one of each of CHECKS.
LOOKED_AT = {
    "SSLv3",
    "TLS1_3",
    "cipherlist_NULL",
    "cert_chain_of_trust <cert#1>",
    "cert_chain_of_trust <cert#2>",
    "heartbleed",
    "ROBOT",
    "BEAST",
}


class Scan:
    """testssl.sh, from when it is made until its findings are asked for."""

    def __init__(self, instance: Instance, port: int, *options: str) -> None:
        self._report = instance.directory / f"testssl-{port}.json"
        self._process = subprocess.Popen(
            [
                *(TESTSSL, "--quiet", "--warnings", "off", "--color", "0", *options),
                *("--nodns", "none", "--ip", "127.0.0.1", "--jsonfile", str(self._report)),
                *("--add-ca", str(instance.authority), f"{NAME}:{port}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=instance.directory,
            start_new_session=True,
        )

    def findings(self) -> list[dict[str, Any]]:
        """@raise AssertionError: there are none in time."""
        try:
            told, _ = self._process.communicate(timeout=LIMIT)
        finally:
            self.stop()
        assert self._report.exists(), told.decode(errors="replace")
        found: list[dict[str, Any]] = json.loads(self._report.read_text())
        return found

    def stop(self) -> None:
        """With all that it has started; may be called twice."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


def grave(found: list[dict[str, Any]]) -> list[str]:
    return [
        f"{finding['severity']} {finding['id']}: {finding['finding']}"
        for finding in found
        if finding["severity"] in GRAVE
    ]


class TestSSLTests(SynchronousTestCase):
    """Nothing is excluded: the authority is made known to testssl.sh (--add-ca)."""

    instance: Instance

    def setUp(self) -> None:
        need(TESTSSL)
        self.instance = scanned_instance()
        self.addCleanup(self.instance.remove)

    def scan(self, port: int, *options: str) -> Scan:
        scan = Scan(self.instance, port, *options)
        self.addCleanup(scan.stop)
        return scan

    def test_shipped(self) -> None:
        """
        Over STARTTLS and where TLS comes first there is no finding of medium severity or worse.
        Both at the same time, since testssl.sh waits much.
        """
        self.instance.start()
        for scan in (
            self.scan(self.instance.port, *CHECKS, "--starttls", "smtp"),
            self.scan(self.instance.smtps_port, *CHECKS),
        ):
            found = scan.findings()
            self.assertEqual(grave(found), [])
            looked_at = {finding["id"] for finding in found}
            self.assertEqual(LOOKED_AT - looked_at, set(), sorted(looked_at))

    def test_poor_settings(self) -> None:
        """What is poor is found, so that it says something if nothing is."""
        tls_ini = self.instance.config / "tls.ini"
        tls_ini.write_text("ciphers=ALL:aNULL:eNULL:@SECLEVEL=0\n" + tls_ini.read_text())
        self.instance.start()
        told = " ".join(grave(self.scan(self.instance.smtps_port, "-s").findings()))
        self.assertIn("cipherlist_aNULL", told)
        self.assertIn("cipherlist_NULL", told)
