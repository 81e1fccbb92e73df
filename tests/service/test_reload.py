"""Tests for harakatls.service.reload, with a clock and files of their own."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import NextHop
from harakatls.service.logs import message_of
from harakatls.service.reload import REMIND, ROUND, TLSReload
from harakatls.service.settings import Settings
from harakatls.tls.client import ClientTLS
from harakatls.tls.dhparams import write_group
from harakatls.tls.handshake import fingerprint
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    chain_octets,
    client_on,
    from_us,
    issued,
    key_octets,
    peer_of,
    plain_client,
    plain_server,
    self_signed,
    shake_hands,
    to_us,
)
from tests.tls.test_dhparams import OF_DSA, OWN

ME = "mx.example.com"
FIRST, SECOND, THIRD = (issued(ME, f"{n}.example") for n in ("first", "second", "third"))
RENEWED = issued(ME, kind="RSA")


def files_of(leaf: trustme.LeafCert) -> dict[str, bytes]:
    return {"tls_key.pem": key_octets(leaf), "tls_cert.pem": chain_octets(leaf)}


def serial_of(leaf: trustme.LeafCert) -> int:
    return load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def fingerprint_of(leaf: trustme.LeafCert) -> str:
    return fingerprint(load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()))


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
        self.reload = TLSReload(
            settings.config,
            settings.tls,
            settings.tls_stamps,
            self.server,
            self.client,
            self.clock,
            lambda do, *about: maybeDeferred(do, *about),
            self.taken_on.append,
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

    def shown(self, server_name: str | None = None, version: int | None = None) -> int:
        """The serial number of the certificate that a client gets to see."""
        outcome = to_us(self.server, plain_client(version, server_name))
        self.assertTrue(outcome.succeeded, outcome)
        return outcome.serial

    def unchanged(self) -> None:
        self.assertEqual(self.shown(), serial_of(FIRST))


def told(events: Any) -> list[str]:
    """Warnings and what is graver begin with the level."""

    def line(event: LogEvent) -> str:
        level = event["log_level"]
        text = message_of(event)
        return text if level is LogLevel.info else f"{level.name}: {text}"

    return [line(event) for event in events]


class ChangeTests(ReloadTestCase):
    def test_replaced(self) -> None:
        """A renewed certificate is shown within five seconds, and the log tells which it is."""
        self.begin()
        self.write(files_of(SECOND))
        self.assertLess(2 * ROUND, 5)
        log = self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))
        self.assertEqual(len(log), 3, log)
        self.assertIn("new EC certificate", log[1])
        self.assertIn(f"serial {serial_of(SECOND):02X}, valid until ", log[1])
        self.assertIn("second.example", log[1])
        self.assertIn(f"serial {serial_of(FIRST):02X}, is no longer shown", log[2])
        self.assertEqual(self.rounds(5), [])

    def test_settling(self) -> None:
        """What is being written gets a round to be complete."""
        self.begin()
        self.write({"tls_key.pem": key_octets(SECOND)})
        self.assertEqual(self.rounds(1), [])
        self.unchanged()
        self.write({"tls_cert.pem": chain_octets(SECOND)})
        self.rounds(1)
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_always_in_motion(self) -> None:
        """Files that change all the time are taken on all the same."""
        self.begin()
        for leaf in (SECOND, THIRD, SECOND, THIRD):
            self.write(files_of(leaf))
            self.rounds(1)
        self.assertEqual(self.shown(), serial_of(THIRD))

    def test_touched(self) -> None:
        """A file that was written anew with the same content is no news."""
        self.begin()
        self.write(files_of(FIRST))
        self.assertEqual(self.rounds(5), [])
        self.assertEqual(self.taken_on, [])

    def test_directory(self) -> None:
        """A file that is added below config/tls, changed or removed counts at once."""
        self.begin({"tls/a/named.pem": key_octets(SECOND) + chain_octets(SECOND)})
        self.assertEqual(self.shown("second.example"), serial_of(SECOND))
        self.write({"tls/b/c/new.pem": key_octets(THIRD) + chain_octets(THIRD)})
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial_of(THIRD))
        renewed = issued("third.example", kind="RSA")
        self.write({"tls/b/c/new.pem": key_octets(renewed) + chain_octets(renewed)})
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial_of(renewed))
        (self.path / "tls/a/named.pem").unlink()
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial_of(FIRST))

    def test_directory_comes(self) -> None:
        """config/tls itself may come later than the server."""
        self.begin()
        self.write({"tls/new.pem": key_octets(SECOND) + chain_octets(SECOND)})
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial_of(SECOND))
        self.unchanged()

    def test_outside(self) -> None:
        """Files that tls.ini names elsewhere count as well."""
        elsewhere = Path(self.mktemp()).absolute()
        elsewhere.mkdir()
        self.begin(ini=f"key={elsewhere}/k.pem\ncert={elsewhere}/c.pem\n")
        self.assertFalse(self.server.ready())
        (elsewhere / "k.pem").write_bytes(key_octets(SECOND))
        (elsewhere / "c.pem").write_bytes(chain_octets(SECOND))
        self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_options(self) -> None:
        """tls.ini counts too, and those who send mail are told."""
        self.begin()
        self.write({"tls.ini": b"minVersion=TLSv1.3\n[outbound]\nforce_tls_hosts[]=a.example\n"})
        self.rounds()
        self.assertFalse(to_us(self.server, plain_client(TLS_1_2)).succeeded)
        (settings,) = self.taken_on
        self.assertIn("a.example", settings.outbound.force_tls_hosts)
        self.assertIs(self.client.settings, settings.outbound)

    def test_requirement(self) -> None:
        """Required TLS holds for those who come after the change."""
        self.begin()
        self.assertFalse(self.server.requires(peer_of(587)))
        self.write({"tls.ini": b"[inbound]\nrequire_tls_ports[]=587\n"})
        self.rounds()
        self.assertTrue(self.server.requires(peer_of(587)))

    def test_own_authorities(self) -> None:
        """Those trusted about next hops are exchanged with the contexts that know them."""
        self.begin({"ca.pem": b""}, "[outbound]\nca=ca.pem\n")
        self.assertEqual(len(self.client.problems), 1)
        self.write({"ca.pem": trustme.CA().cert_pem.bytes()})
        self.rounds()
        self.assertEqual(self.client.problems, ())

    def test_certificates_for_next_hops(self) -> None:
        """A new rule, and a new certificate in a file that a rule speaks of."""
        self.begin({"tls/c.pem": key_octets(SECOND) + chain_octets(SECOND)})
        hop = NextHop("192.0.2.7", "a.example")
        may = Decision(SecurityLevel.MAY, ())
        self.assertEqual(self.client.identified(hop, may), may)
        self.write({"tls.ini": b"[mutual_auth_hosts]\na.example=second.example\n"})
        self.rounds()
        decision = self.client.identified(hop, may)
        self.assertEqual(decision.identity, (fingerprint_of(SECOND),))
        renewed = issued("second.example", kind="RSA")
        self.write({"tls/c.pem": key_octets(renewed) + chain_octets(renewed)})
        self.rounds()
        again = self.client.identified(hop, may)
        self.assertEqual(again.identity, (fingerprint_of(renewed),))
        outcome = from_us(self.client, again, plain_server(FIRST, configure=ask))
        shown = outcome.server.get_peer_certificate()
        assert shown is not None
        self.assertEqual(fingerprint(shown), again.identity[0])
        # Who has decided before the change shows none rather than another.
        outcome = from_us(self.client, decision, plain_server(FIRST, configure=ask))
        self.assertIsNone(outcome.server.get_peer_certificate())

    def test_wrong_certificate_for_next_hops(self) -> None:
        """A rule without its certificate is refused as a whole; what was there is still shown."""
        ini = "[mutual_auth_hosts]\na.example=second.example\n"
        self.begin({"tls/c.pem": key_octets(SECOND) + chain_octets(SECOND)}, ini)
        (self.path / "tls/c.pem").unlink()
        log = self.rounds()
        self.assertIn("there is no certificate second.example", " ".join(log))
        decision = Decision(SecurityLevel.MAY, ())
        found = self.client.identified(NextHop("192.0.2.7", "a.example"), decision)
        self.assertEqual(found.identity, (fingerprint_of(SECOND),))

    def test_warning(self) -> None:
        """A key that was mistyped in the change is named, once."""
        self.begin(ini="unheard_of=1\n")
        self.write({"tls.ini": b"unheard_of=1\nminversion=TLSv1.3\n"})
        warned = [line for line in self.rounds() if line.startswith("warn")]
        self.assertEqual(
            warned, ["warn: tls.ini minversion: unknown key; did you mean minVersion?"]
        )
        self.write({"tls.ini": b"unheard_of=1\nminversion=TLSv1.3\n;\n"})
        self.assertEqual(self.rounds(), [])

    def test_ticket(self) -> None:
        """A client with a session from before gets a full handshake, and nothing worse."""
        self.begin()
        for version in (TLS_1_2, TLS_1_3):
            self.write(files_of(FIRST))
            self.reload.reload()
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            before = to_us(self.server, client_on(context))
            session = before.client.get_session()
            assert session is not None
            self.write(files_of(SECOND))
            self.reload.reload()
            again = client_on(context)
            again.set_session(session)
            outcome = to_us(self.server, again)
            self.assertTrue(outcome.succeeded, outcome)
            self.assertEqual(outcome.serial, serial_of(SECOND))

    def test_open_connections(self) -> None:
        """A handshake under way ends with the certificate it began with."""
        self.begin()
        client = plain_client()
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        hello = client.bio_read(1 << 16)
        creator = self.server.connection_creator(peer_of(), hello)
        self.write(files_of(SECOND))
        self.rounds()
        server = creator.serverConnectionForTLS(None)  # type: ignore[arg-type]
        server.set_accept_state()
        server.bio_write(hello)
        outcome = shake_hands(client, server)
        self.assertTrue(outcome.succeeded, outcome)
        self.assertEqual(outcome.serial, serial_of(FIRST))


class LinkTests(ReloadTestCase):
    """Links that are turned to other files, which themselves do not change."""

    def test_certbot(self) -> None:
        """live/ holds links into archive/, which certbot replaces one by one."""
        root = Path(self.mktemp()).absolute()
        live, archive = root / "live", root / "archive"
        live.mkdir(parents=True)
        archive.mkdir()
        for number, leaf in ((1, FIRST), (2, SECOND)):
            (archive / f"privkey{number}.pem").write_bytes(key_octets(leaf))
            (archive / f"fullchain{number}.pem").write_bytes(chain_octets(leaf))
        for name in ("privkey", "fullchain"):
            (live / f"{name}.pem").symlink_to(f"../archive/{name}1.pem")
        self.begin(ini=f"key={live}/privkey.pem\ncert={live}/fullchain.pem\n")
        self.unchanged()
        for name in ("privkey", "fullchain"):
            self.turn(live / f"{name}.pem", f"../archive/{name}2.pem")
        self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_kubernetes(self) -> None:
        """A mounted secret is a link to ..data, and that is one to a directory with a date."""
        self.begin()
        mount = self.path / "tls"
        for date, leaf in (("..one", SECOND), ("..two", THIRD)):
            (mount / date).mkdir(parents=True)
            (mount / date / "tls.key").write_bytes(key_octets(leaf))
            (mount / date / "tls.crt").write_bytes(chain_octets(leaf))
        (mount / "..data").symlink_to("..one")
        for name in ("tls.key", "tls.crt"):
            (mount / name).symlink_to(f"..data/{name}")
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial_of(SECOND))
        self.turn(mount / "..data", "..two")
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial_of(THIRD))
        self.assertEqual(self.shown("second.example"), serial_of(FIRST))

    def test_directory(self) -> None:
        """config/tls may itself be a link."""
        for name, leaf in (("one", SECOND), ("two", THIRD)):
            directory = Path(self.mktemp()).absolute()
            directory.mkdir()
            (directory / "a.pem").write_bytes(key_octets(leaf) + chain_octets(leaf))
            setattr(self, name, directory)
        self.begin()
        one: Path = self.one  # type: ignore[attr-defined]
        (self.path / "tls").symlink_to(one)
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial_of(SECOND))
        self.turn(self.path / "tls", str(self.two))  # type: ignore[attr-defined]
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial_of(THIRD))

    def turn(self, link: Path, target: str) -> None:
        """As both do it: at no time is there no link."""
        new = link.with_name(".new")
        new.symlink_to(target)
        os.replace(new, link)


class MistakeTests(ReloadTestCase):
    """All goes on as before, and the log says why in one line."""

    def refused(self, files: dict[str, bytes], *words: str) -> None:
        self.write(files)
        log = self.rounds()
        self.assertEqual(len(log), 1, log)
        self.assertTrue(log[0].startswith("error: TLS: what has changed is not used"), log)
        for word in words:
            self.assertIn(word, log[0])
        self.assertEqual(self.rounds(5), [])
        self.assertEqual(self.taken_on, [])
        self.unchanged()

    def test_mistakes(self) -> None:
        """Whatever is wrong, it is named with its file."""
        expired = self_signed(ME, not_after=datetime.now(UTC) - timedelta(hours=1))
        cases: tuple[tuple[dict[str, bytes], tuple[str, ...]], ...] = (
            ({"tls_cert.pem": b""}, ("tls_cert.pem", "the file is empty")),
            ({"tls_cert.pem": chain_octets(SECOND)}, ("tls_cert.pem", "tls_key.pem")),
            ({"tls_cert.pem": chain_octets(FIRST)[:300]}, ("tls_cert.pem",)),
            ({"tls_key.pem": os.urandom(3000)}, ("tls_key.pem",)),
            (dict(zip(("tls_key.pem", "tls_cert.pem"), expired, strict=True)), ("expired at",)),
            ({"tls.ini": b"minVersion=TLSv9\n"}, ("tls.ini minVersion: 'TLSv9'",)),
            ({"tls.ini": b"ciphers=NONESUCH\n"}, ("tls.ini ciphers", "no cipher")),
            ({"tls.ini": b"\xff\n"}, ("tls.ini", "UTF-8")),
            ({"tls.ini": b"ca=nowhere.pem\n"}, ("nowhere.pem", "no such file")),
            ({"tls/new.pem": b"-----BEGIN"}, ("tls/new.pem",)),
            ({"tls.ini": b"[outbound]\nciphers=NONESUCH\n"}, ("[outbound]", "no cipher")),
        )
        for files, words in cases:
            self.begin()
            self.refused(files, *words)
            self.reload.stop()

    def test_removed(self) -> None:
        """Who moves files away for a while does not take the certificate from those who come."""
        self.begin()
        (self.path / "tls_key.pem").unlink()
        self.refused({}, "tls_key.pem: there is no such file")

    def test_no_config(self) -> None:
        """Nor who moves all of the directory away; when it is back, changes count again."""
        self.begin()
        away = self.path.with_name("away")
        self.path.rename(away)
        log = self.rounds()
        self.assertEqual(len(log), 1, log)
        away.rename(self.path)
        self.write(files_of(SECOND))
        self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_mended(self) -> None:
        """Once the mistake is mended, the change counts without further ado."""
        self.begin()
        self.refused({"tls_cert.pem": chain_octets(SECOND)}, "tls_cert.pem")
        self.write({"tls_key.pem": key_octets(SECOND)})
        self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_taken_back(self) -> None:
        """So it does when it is taken back, which the log says as well."""
        self.begin()
        self.refused({"tls.ini": b"minVersion=9\n"}, "minVersion")
        self.write({"tls.ini": b""})
        self.assertEqual(
            self.rounds(), ["TLS: the change that could not be used has been taken back"]
        )

    def test_reminder(self) -> None:
        """A mistake that stays is told again every day: certificates expire meanwhile."""
        self.begin()
        self.refused({"tls_cert.pem": b""}, "tls_cert.pem")
        with capturedLogs() as events:
            self.clock.advance(REMIND)
        self.assertEqual(len(events), 1)
        self.assertIn("tls_cert.pem", told(events)[0])

    def test_old_mistake(self) -> None:
        """A file that has been wrong since the start keeps no other from being renewed."""
        self.begin({"tls/broken.pem": b"?", "tls/old.pem": b"".join(self_signed("old.example"))})
        self.assertEqual(len(self.server.problems), 1)
        self.write(files_of(SECOND))
        self.assertEqual(len(self.rounds()), 3)
        self.assertEqual(self.shown(), serial_of(SECOND))

    def test_failure(self) -> None:
        """A mistake of ours ends no round: the next one does its work."""
        self.begin()
        prepare = self.server.prepare

        def broken(settings: object) -> None:
            raise ZeroDivisionError

        self.server.prepare = broken  # type: ignore[assignment, method-assign]
        self.write(files_of(SECOND))
        self.rounds()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.server.prepare = prepare  # type: ignore[method-assign]
        self.rounds()
        self.assertEqual(self.shown(), serial_of(SECOND))


class HangupTests(ReloadTestCase):
    def hangup(self) -> list[str]:
        with capturedLogs() as events:
            self.successResultOf(self.reload.reload())
        return told(events)

    def test_at_once(self) -> None:
        """SIGHUP does not wait."""
        self.begin()
        self.write(files_of(SECOND))
        self.assertEqual(len(self.hangup()), 3)
        self.assertEqual(self.shown(), serial_of(SECOND))
        self.assertEqual(self.rounds(5), [])

    def test_nothing(self) -> None:
        """Who sends it gets an answer in the log in any case."""
        self.begin()
        self.assertEqual(self.hangup(), ["SIGHUP: nothing has changed for TLS"])

    def test_mistake(self) -> None:
        """Also to a second one, if the mistake is still there."""
        self.begin()
        self.write({"tls.ini": b"minVersion=9\n"})
        for _ in range(2):
            log = self.hangup()
            self.assertEqual(len(log), 1, log)
            self.assertIn("minVersion", log[0])

    def test_one_at_a_time(self) -> None:
        """While files are read nothing else is read: what came last counts in the end."""
        self.begin()
        waiting: list[tuple[Deferred[object], Callable[[], object]]] = []

        def later(do: Callable[..., object], *about: object) -> Deferred[object]:
            waiting.append((Deferred(), lambda: do(*about)))
            return waiting[-1][0]

        self.reload._call_in_thread = later
        self.write(files_of(SECOND))
        first, second = self.reload.reload(), self.reload.reload()
        self.assertEqual(len(waiting), 1)
        while waiting:
            result, do = waiting.pop(0)
            result.callback(do())
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.shown(), serial_of(SECOND))


class OtherFileTests(ReloadTestCase):
    """What is not reloaded is told."""

    def test_changed(self) -> None:
        """A change that needs a restart is told once; one that was taken back is not told."""
        self.begin()
        self.write({"smtp.ini": b"listen=127.0.0.1:2500\n"})
        self.assertEqual(self.rounds(4), ["warn: smtp.ini has changed; restart to apply"])
        self.write({"smtp.ini": b""})
        self.assertEqual(self.rounds(4), [])

    def test_new_file(self) -> None:
        """Also a file that was not there."""
        self.begin()
        self.write({"outbound.ini": b"disabled=true\n"})
        self.assertEqual(self.rounds(), ["warn: outbound.ini has changed; restart to apply"])

    def test_written_anew(self) -> None:
        """The same content is no change: tools write all files when one has changed."""
        self.begin()
        os.replace(self.path / "smtp.ini", self.path / "other")
        self.write({"smtp.ini": b""})
        self.assertEqual(self.rounds(4), [])

    def test_hangup(self) -> None:
        """SIGHUP names all that wait for a restart, each time."""
        self.begin()
        self.write({"smtp.ini": b"listen=127.0.0.1:2500\n", "me": b"other.example\n"})
        self.rounds()
        with capturedLogs() as events:
            self.reload.reload()
        self.assertEqual(len(events), 3, told(events))

    def test_redis(self) -> None:
        """So is the part of tls.ini that is read at the start alone."""
        self.begin()
        self.write({"tls.ini": b"[redis]\ndisable_for_failed_hosts=true\n"})
        self.assertIn(
            "warn: [redis] of tls.ini, or redis.ini, has changed; restart to apply", self.rounds()
        )


class GroupTests(ReloadTestCase):
    """dhparam: what is made in the background, and what an operator puts there."""

    def test_made(self) -> None:
        """The group that is made was in use before: no context is made anew for it."""
        self.begin()
        before = self.server.snapshot
        self.assertTrue(write_group(self.path / "dhparams.pem"))
        self.assertEqual(self.rounds(), [])
        self.assertIs(self.server.snapshot, before)

    def test_own(self) -> None:
        """Another group counts for new connections; a broken one changes nothing."""
        self.begin(ini="minVersion=TLSv1.2\n")
        self.write({"dhparams.pem": OF_DSA})
        (line,) = self.rounds()
        self.assertIn("new connections", line)
        self.assertEqual(self.server.snapshot.settings.parameters.dh_group, OWN)
        self.write({"dhparams.pem": b"garbage"})
        (line,) = self.rounds()
        self.assertIn("error: TLS: what has changed is not used", line)
        self.assertIn("dhparam: dhparams.pem: there are no DH PARAMETERS in it", line)
        self.assertEqual(self.server.snapshot.settings.parameters.dh_group, OWN)


class NamedSectionTests(ReloadTestCase):
    """Sections named after certificates come and go as all else does."""

    def test_section(self) -> None:
        """Its rules hold after the change, and not before."""
        self.begin()
        self.assertEqual(self.shown("first.example", TLS_1_2), serial_of(FIRST))
        self.write({"tls.ini": b"[first.example]\nminVersion=TLSv1.3\n"})
        self.assertEqual(len(self.rounds()), 1)
        outcome = to_us(self.server, plain_client(TLS_1_2, "first.example"))
        self.assertFalse(outcome.succeeded)
        self.assertEqual(self.shown(ME, TLS_1_2), serial_of(FIRST))

    def test_section_for_nobody(self) -> None:
        """One that no certificate belongs to is not taken on."""
        self.begin()
        self.write({"tls.ini": b"[second.example]\nminVersion=TLSv1.3\n"})
        (line,) = self.rounds()
        self.assertIn("tls.ini [second.example]: no certificate has this name", line)
        self.unchanged()
