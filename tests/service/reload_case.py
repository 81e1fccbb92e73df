"""A server that looks after its files, with a clock and a config directory of its own."""

from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.service.logs import message_of
from harakatls.service.reload import ROUND, SETTLE, TLSReload
from harakatls.service.settings import Settings
from harakatls.tls.client import ClientTLS
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import chain_octets, issued, key_octets, plain_client, serial, to_us

ME = "mx.example.com"
FIRST, SECOND, THIRD = (issued(ME, f"{n}.example") for n in ("first", "second", "third"))
RENEWED = issued(ME, kind="RSA")


def files_of(leaf: trustme.LeafCert) -> dict[str, bytes]:
    return {"tls_key.pem": key_octets(leaf), "tls_cert.pem": chain_octets(leaf)}


def ask(context: SSL.Context) -> None:
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)


class ReloadTestCase(SynchronousTestCase):
    def begin(self, files: dict[str, bytes] | None = None, ini: str = "") -> None:
        """A server on these files, which looks after them."""
        given = {"me": ME.encode(), "tls.ini": ini.encode(), "smtp.ini": b"", **files_of(FIRST)}
        self.path = write_config(self, {**given, **(files or {})}).path
        self.load()

    def load(self) -> None:
        self.clock = Clock()
        settings = Settings.load(self.path)
        self.server = ServerTLS(settings.tls.inbound, settings.me)
        self.client = ClientTLS(settings.tls.outbound)
        self.taken_on: list[TLSSettings] = []
        self.missing: list[list[bool]] = []
        self.reload = TLSReload(
            settings.config,
            settings.tls,
            settings.tls_stamps,
            self.server,
            self.client,
            self.clock,
            lambda do, *about: maybeDeferred(do, *about),
            self.taken_on.append,
            lambda found: self.missing.append([f.missing for f in found.inbound.group_files]),
        )
        self.reload.start()
        self.addCleanup(self.reload.stop)

    def write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def rounds(self, number: int = 2) -> list[str]:
        """@return: what was logged meanwhile."""
        with capturedLogs() as events:
            self.clock.pump([ROUND] * number)
        return told(events)

    def settle(self) -> None:
        """What is still being written gets its time."""
        self.clock.advance(SETTLE)

    def shown(self, server_name: str | None = None, version: int | None = None) -> int:
        """The serial number of the certificate that a client gets to see."""
        outcome = to_us(self.server, plain_client(version, server_name))
        self.assertTrue(outcome.succeeded, outcome)
        return outcome.serial

    def unchanged(self) -> None:
        self.assertEqual(self.shown(), serial(FIRST))


def told(events: Any) -> list[str]:
    """Warnings and what is graver begin with the level."""

    def line(event: LogEvent) -> str:
        level = event["log_level"]
        text = message_of(event)
        return text if level is LogLevel.info else f"{level.name}: {text}"

    return [line(event) for event in events]
