"""`harakatls tls` at the command line: what it says of what is wrong, and README's example."""

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    HARAKATLS,
    REPOSITORY,
    environment,
    need,
    run_harakatls,
    temporary_directory,
)
from tests.tls.peers import chain_octets, issued, key_octets, self_signed, with_chain

ME = "mx.test"
EC, RSA = with_chain(ME), with_chain(ME, kind="RSA")
INI = "key[]=e.key\ncert[]=e.crt\nkey[]=r.key\ncert[]=r.crt\n"
GOOD: Mapping[str, str | bytes] = {
    "me": f"{ME}\n",
    "smtp.ini": "listen=127.0.0.1:2525,127.0.0.1:2465\nsmtps_port=2465\n",
    "plugins": "tls\n",
    "tls.ini": INI,
    "e.key": key_octets(EC),
    "e.crt": chain_octets(EC),
    "r.key": key_octets(RSA),
    "r.crt": chain_octets(RSA),
}
EXPIRY = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
OLD_KEY, OLD = self_signed(ME, not_after=EXPIRY)

# What is broken, and all that is told of it.
BROKEN: Mapping[str, tuple[Mapping[str, str | bytes], tuple[str, ...]]] = {
    "key of another certificate": (
        {"e.key": key_octets(issued(ME))},
        ("e.crt: no certificate in it belongs to the key in e.key",),
    ),
    "expired": (
        {"e.key": OLD_KEY, "e.crt": OLD},
        (f"e.crt with e.key: the certificate expired at {EXPIRY}",),
    ),
    "missing": (
        {"tls.ini": INI.replace("e.key", "/nowhere/e.key")},
        ("/nowhere/e.key: there is no such file",),
    ),
    "certificate cut off": (
        {"e.crt": chain_octets(EC)[:-100]},
        ("e.crt: CERTIFICATE in line 15: it has no END, the file is cut off",),
    ),
    "key cut off": (
        {"e.key": key_octets(EC)[:-40]},
        ("e.key: EC PRIVATE KEY in line 1: it has no END, the file is cut off",),
    ),
    "empty": ({"e.key": b""}, ("e.key: the file is empty",)),
    "interchanged": (
        {"e.key": chain_octets(EC), "e.crt": key_octets(EC)},
        ("e.key and e.crt: key and cert seem to be interchanged",),
    ),
    "values of a wrong type": (
        {
            "tls.ini": INI + "requestCert=perhaps\nminVersion=TLS1.2\nrequireAuthorized[]=smtps\n"
            "[redis]\ndisable_expiry=a week\n"
        },
        (
            "tls.ini minVersion: 'TLS1.2' is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
            "tls.ini requestCert: 'perhaps' is neither true nor false",
            "tls.ini requireAuthorized: 'smtps' is not a whole number from 1 to 65535",
            "tls.ini [redis] disable_expiry: 'a week' is not a number of seconds",
        ),
    ),
    "unknown key and section": (
        {"tls.ini": INI + "minversion=TLSv1.3\n[oubound]\nforce_tls_hosts[]=a.test\n"},
        (
            "tls.ini minversion: unknown key; did you mean minVersion?",
            "tls.ini [oubound]: unknown section",
        ),
    ),
    "more keys than certificates": (
        {"tls.ini": "key[]=e.key\ncert[]=e.crt\nkey[]=r.key\n"},
        (
            "tls.ini: key names 2 file(s), but cert names 1",
            "r.key: no certificate belongs to this key",
        ),
    ),
    "contradictory": (
        {"tls.ini": INI + "no_starttls_ports[]=2525\nrequire_tls_ports[]=2525\n"},
        (
            "tls.ini require_tls_ports: lists 2525, and so does no_starttls_ports: "
            "no mail could come",
        ),
    ),
    "unknown cipher": (
        {"tls.ini": INI + "ciphers=NONESUCH\n"},
        ("tls.ini ciphers: 'NONESUCH' leaves OpenSSL no cipher to use",),
    ),
    "unknown curve": (
        {"tls.ini": INI + "ecdhCurve=round\n"},
        ("tls.ini ecdhCurve: OpenSSL does not know 'round'",),
    ),
    "two of a kind": (
        {"r.key": OLD_KEY, "r.crt": OLD},
        ("r.crt with r.key: not used, since e.crt with e.key has the same kind of key (EC)",),
    ),
    "with a passphrase": (
        {"e.key": key_octets(EC).replace(b"EC PRIVATE", b"ENCRYPTED PRIVATE")},
        ("e.key: ENCRYPTED PRIVATE KEY in line 1: it is encrypted; store it without a passphrase",),
    ),
    "half a bundle": (
        {"tls/a.pem": key_octets(issued(ME))},
        ("tls/a.pem: no certificate belongs to this key",),
    ),
}


def config_with(files: Mapping[str, str | bytes]) -> Path:
    directory = temporary_directory()
    for name, content in {**GOOD, **files}.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def told(output: str) -> tuple[str, ...]:
    """The lines below "Mistakes"."""
    lines = output.partition("\nMistakes\n\n")[2].partition("\n\n")[0].splitlines()
    return tuple(line.removeprefix("    ") for line in lines)


class BrokenTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Each mistake is told in one line with its place, and nothing else; the status is 1."""
        for title, (files, expected) in BROKEN.items():
            done = run_harakatls("tls", "--config", config_with(files))
            self.assertEqual(told(done.stdout), expected, title)
            self.assertEqual((done.returncode, done.stderr), (1, ""), title)
            number = f"{len(expected)} mistake{'s' if expected[1:] else ''}"
            self.assertEqual(done.stdout.splitlines()[-1], number, title)
            self.assertNotIn("PRIVATE KEY-----", done.stdout)

    def test_unreadable(self) -> None:
        """A file that we may not read is told, and so is why."""
        config = config_with({})
        (config / "e.key").chmod(0)
        command = [*HARAKATLS, "tls", "--config", str(config)]
        if os.geteuid() == 0:  # who may read everything, unless that right is taken from it
            need("setpriv")
            command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment()
        )
        self.assertEqual(told(done.stdout), ("e.key: cannot be read: Permission denied",))
        self.assertEqual((done.returncode, done.stderr), (1, ""))

    def test_good(self) -> None:
        """And where nothing is broken, nothing is told."""
        done = run_harakatls("tls", "--config", config_with({}))
        self.assertEqual((done.returncode, done.stderr, told(done.stdout)), (0, "", ()))
        self.assertTrue(done.stdout.endswith("\nNo mistakes.\n"))


class ReadmeTests(SynchronousTestCase):
    OWN = re.compile(
        r"\b[0-9A-F]{36,40}\b|\b[0-9a-f]{64}\b|\d{4}-\d\d-\d\dT[\d:]+\+00:00|\d+(?= days left)"
    )

    def test_example(self) -> None:
        """README shows what is printed for a new instance, but for what "..." leaves out."""
        instance = temporary_directory() / "mail"
        done = run_harakatls("init", "--host", "mail.example.com", instance)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run_harakatls("tls", "--config", instance / "config")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        printed = iter(self.OWN.sub("?", done.stdout).splitlines())
        readme = (REPOSITORY / "README.rst").read_text("utf-8")
        example = readme.partition("$ harakatls tls --config /srv/mail/config\n")[2]
        lines = self.OWN.sub("?", example.partition("\n    No mistakes.\n")[0]).splitlines()
        self.assertGreater(len(lines), 30)
        left_out = False
        for line in [*(line.removeprefix("    ") for line in lines), "No mistakes."]:
            if line.strip() == "...":
                left_out = True
                continue
            found = next(printed, None)
            while left_out and found is not None and found != line:
                found = next(printed, None)
            self.assertEqual(found, line)
            left_out = False
        self.assertIsNone(next(printed, None))
