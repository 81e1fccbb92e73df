"""Tests for what ``harakatls tls`` says of OCSP staples."""

import json
import os
from argparse import Namespace
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.service import command_tls
from harakatls.service.server import STAPLES
from harakatls.service.tls_report import TLSReport, tls_report
from harakatls.tls.staples import StapleFiles
from tests.config.files import write_config
from tests.tls.peers import key_pem
from tests.tls.responding import (
    DAY,
    NOW,
    OCSP_SIGNING,
    REVOKED,
    UNKNOWN,
    URL,
    Holder,
    certify,
    key_of,
    leaf,
    respond,
    root,
)

ME = "mx.example.com"
MUST = "clients must refuse it without an OCSP staple"


class StapleTestCase(SynchronousTestCase):
    def config(
        self, holder: Holder, kept: bytes | None, on: str = "true", issuer: Holder | None = None
    ) -> ConfigDirectory:
        """An instance with one certificate, and with what its server has kept."""
        config = write_config(
            self,
            {
                "me": ME,
                "smtp.ini": "listen=192.0.2.1:25\n",
                "plugins": "tls\n",
                "tls.ini": f"key=a.key\ncert=a.crt\n[inbound]\nrequestOCSP={on}\n",
                "a.key": key_pem(holder.key),
                "a.crt": holder.pem + (issuer or root()).pem,
            },
        )
        if kept is not None:
            queue = queue_directory(config)
            queue.mkdir(parents=True)
            StapleFiles(queue / STAPLES).write(holder.certificate, kept)
        return config

    def report(self, holder: Holder, kept: bytes | None, on: str = "true") -> TLSReport:
        return tls_report(self.config(holder, kept, on), NOW)

    def told(self, holder: Holder, kept: bytes | None, on: str = "true") -> str:
        """What is told where that is no mistake."""
        report = self.report(holder, kept, on)
        self.assertEqual(report.mistakes, ())
        return str(report.certificates[0]["staple"])

    def mistaken(self, holder: Holder, kept: bytes | None, *words: str, on: str = "true") -> str:
        """What is told where that is one mistake, which has these words."""
        report = self.report(holder, kept, on)
        self.assertEqual(len(report.mistakes), 1, report.mistakes)
        for word in ("a.crt with a.key: ", *words):
            self.assertIn(word, report.mistakes[0])
        return str(report.certificates[0]["staple"])


class StateTests(StapleTestCase):
    """An operator reads off whether clients get a staple, and if not, why."""

    def test_good(self) -> None:
        """How long it can be shown."""
        good = f"good until {(NOW + 6 * DAY).isoformat()}"
        self.assertEqual(self.told(leaf(), respond(leaf())), good)
        must = leaf(must=True)
        self.assertEqual(self.told(must, respond(must)), good)

    def test_none(self) -> None:
        """The server has not got any yet, or not been started."""
        self.assertEqual(self.told(leaf(), None), "none yet")
        self.assertEqual(self.told(leaf(), respond(leaf("b.example"))).split(";")[0], "none yet")

    def test_expired(self) -> None:
        """What is out of date is not shown, also if it is its signer that is."""
        end = NOW - DAY
        old = respond(leaf(), begin=NOW - 3 * DAY, end=end)
        self.assertEqual(self.told(leaf(), old), f"expired at {end.isoformat()}")
        signer = certify("signer", key_of("EC", "s"), root(), usage=OCSP_SIGNING, not_after=end)
        delegated = respond(leaf(), signer=signer, begin=NOW - 3 * DAY)
        self.assertEqual(self.told(leaf(), delegated), f"expired at {end.isoformat()}")

    def test_expires_now(self) -> None:
        """At its end it is no longer good, as for the server."""
        text = self.told(leaf(), respond(leaf(), end=NOW))
        self.assertEqual(text, f"expired at {NOW.isoformat()}")

    def test_refused(self) -> None:
        """What the issuer has not said counts for nothing, fresh or old, good or revoked."""
        stranger = certify("Responding Trust", key_of("EC", "stranger"))
        forged = (
            respond(leaf(), signer=stranger),
            respond(leaf(), signer=stranger, begin=NOW - 3 * DAY, end=NOW - DAY),
            respond(leaf(), signer=stranger, status=REVOKED),
            respond(leaf(), status=UNKNOWN),
            respond(leaf(), begin=NOW + DAY),
            b"",
            b"\x30\x03\x0a\x01\x06",  # unauthorized
        )
        for kept in forged:
            self.assertIn("none yet; what is kept is refused: ", self.told(leaf(), kept))

    def test_no_responder(self) -> None:
        """Nothing is to be had for a certificate without a responder."""
        plain = certify(ME, key_of("EC"), root())
        expected = "no responder named in the certificate"
        self.assertEqual(self.told(plain, None), expected)

    def test_no_issuer(self) -> None:
        """The file of the certificate is not complete."""
        config = self.config(leaf(), None, issuer=leaf())
        (facts,) = tls_report(config, NOW).certificates
        self.assertEqual(facts["staple"], "issuer not in the file")

    def test_issuer_among_anchors(self) -> None:
        """The issuer is found where the server finds it."""
        config = self.config(leaf(), respond(leaf()), issuer=leaf())
        directory = config.resolve(".")
        (directory / "tls.ini").write_text(
            "key=a.key\ncert=a.crt\nca=ca.pem\n[inbound]\nrequestOCSP=true\n"
        )
        (directory / "ca.pem").write_bytes(root().pem)
        (facts,) = tls_report(ConfigDirectory(directory), NOW).certificates
        self.assertIn("good until", facts["staple"])

    def test_off(self) -> None:
        """What is left over from former times is not taken for shown."""
        self.assertEqual(self.told(leaf(), respond(leaf()), on="false"), "off")
        self.assertIs(self.report(leaf(), None, "false").incoming["requestOCSP"], False)
        self.assertIs(self.report(leaf(), None).incoming["requestOCSP"], True)

    def test_hidden(self) -> None:
        """Who may not look is not told that there is nothing."""

        def scandir(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        self.patch(os, "scandir", scandir)  # root may look anywhere
        text = self.told(leaf(must=True), None)
        self.assertTrue(text.startswith("not known: "), text)
        self.assertTrue(text.endswith("ocsp: Permission denied"), text)


class MistakeTests(StapleTestCase):
    """Clients refuse the certificate, so a check before a start must fail."""

    def test_revoked(self) -> None:
        """Since when; that the word is out of date does not make it good again."""
        begin = NOW - 3 * DAY
        expected = f"revoked since {begin.isoformat()}"
        for end in (NOW + DAY, NOW - DAY):
            kept = respond(leaf(), status=REVOKED, begin=begin, end=end)
            self.assertEqual(self.mistaken(leaf(), kept, expected, "replace it"), expected)

    def test_must_staple(self) -> None:
        """Where clients insist on a staple, none is a mistake, whatever the reason."""
        must = leaf(must=True)
        unnamed = certify(ME, key_of("EC"), root(), must=True)
        old = respond(must, begin=NOW - 3 * DAY, end=NOW - DAY)
        self.assertEqual(self.mistaken(must, None, MUST, "none yet"), "none yet")
        self.assertIn("expired at", self.mistaken(must, old, MUST, "expired at"))
        self.assertIn("refused", self.mistaken(must, b"x", MUST, "it cannot be read"))
        self.assertIn("no responder", self.mistaken(unnamed, None, MUST, "no responder"))
        kept = respond(must)
        self.assertEqual(self.mistaken(must, kept, "requestOCSP is off", on="false"), "off")

    def test_exit_status(self) -> None:
        """Programs see it by the exit status, and people at the certificate."""
        revoked = respond(leaf(), status=REVOKED)
        for kept, status, word in ((respond(leaf()), 0, "good until"), (revoked, 1, "revoked")):
            config = self.config(leaf(), kept)
            printed = StringIO()
            with redirect_stdout(printed):
                path = str(config.resolve("."))
                self.assertEqual(command_tls.run(Namespace(config=path, json=False)), status)
                self.assertIn(f"    staple      {word}", printed.getvalue())
                printed.seek(0)
                printed.truncate()
                command_tls.run(Namespace(config=path, json=True))
            (facts,) = json.loads(printed.getvalue())["certificates"]
            self.assertIn(word, facts["staple"])


class FileTests(StapleTestCase):
    def test_only_read(self) -> None:
        """A look changes nothing, not even what is wrong or of other certificates."""
        config = self.config(leaf(), b"x")
        directory = queue_directory(config) / STAPLES
        (directory / "other.der").write_bytes(b"y")
        tls_report(config, datetime.now(NOW.tzinfo))
        name = leaf().certificate.fingerprint(SHA256()).hex() + ".der"
        self.assertEqual({p.name for p in directory.iterdir()}, {name, "other.der"})
        fresh = self.config(certify(ME, key_of("EC"), root(), url=URL), None)
        tls_report(fresh, NOW)
        self.assertFalse(queue_directory(fresh).exists())
