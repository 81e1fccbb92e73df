"""Tests for harakatls.service.reload: certificates that change, and mistakes in them."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from harakatls.service.reload import REMIND, ROUND, SETTLE
from tests.service.reload_case import FIRST, ME, SECOND, THIRD, ReloadTestCase, files_of, told
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    authority,
    begun,
    chain_octets,
    client_context,
    client_on,
    hello_of,
    issued,
    key_octets,
    peer_of,
    plain_client,
    self_signed,
    serial,
    shake_hands,
    to_us,
    with_chain,
)


class ChangeTests(ReloadTestCase):
    def test_replaced(self) -> None:
        """A renewed certificate is shown within five seconds, and the log tells which it is."""
        self.begin()
        self.write(files_of(SECOND))
        self.assertLess(2 * ROUND, 5)
        log = self.rounds()
        self.assertEqual(self.shown(), serial(SECOND))
        self.assertEqual(len(log), 3, log)
        self.assertIn("new EC certificate", log[1])
        self.assertIn(f"serial {serial(SECOND):02X}, valid until ", log[1])
        self.assertIn("second.example", log[1])
        self.assertIn(f"serial {serial(FIRST):02X}, is no longer shown", log[2])
        self.assertEqual(self.rounds(5), [])

    def test_settling(self) -> None:
        """What is being written gets a round to be complete."""
        self.begin()
        self.write({"tls_key.pem": key_octets(SECOND)})
        self.assertEqual(self.rounds(1), [])
        self.unchanged()
        self.write({"tls_cert.pem": chain_octets(SECOND)})
        self.assertEqual(self.rounds(1), [])  # the chain may still be to come
        self.unchanged()
        self.settle()
        self.assertEqual(self.shown(), serial(SECOND))

    def test_written_in_three_steps(self) -> None:
        """Leaf first, chain later, over two rounds: no client gets to see the leaf alone."""
        self.begin()
        whole = with_chain(ME)
        leaf, issuer = (pem.bytes() for pem in whole.cert_chain_pems)
        self.write({"tls_key.pem": key_octets(whole)})
        self.rounds(1)
        self.write({"tls_cert.pem": leaf})
        self.rounds(1)
        self.unchanged()
        self.write({"tls_cert.pem": leaf + issuer})
        self.settle()
        outcome = to_us(self.server, plain_client())
        self.assertEqual(len(outcome.client.get_peer_cert_chain(as_cryptography=True) or ()), 2)
        self.assertEqual(len(self.taken_on), 1)

    def test_new_file_grows(self) -> None:
        """A file that was not there before is as well waited for while it grows."""
        self.begin({"tls/a/x.pem": key_octets(THIRD) + chain_octets(THIRD)})
        for path in ("tls/a/new.pem", "tls/b/c/new.pem"):
            whole = authority().create_child_ca().issue_cert(f"{path[4]}.new.example")
            leaf, issuer = (pem.bytes() for pem in whole.cert_chain_pems)
            taken_on = len(self.taken_on)
            self.write({path: key_octets(whole)})
            self.rounds(1)
            self.write({path: key_octets(whole) + leaf})
            self.assertEqual(self.rounds(1), [])
            self.write({path: key_octets(whole) + leaf + issuer})
            self.settle()
            outcome = to_us(self.server, plain_client(None, f"{path[4]}.new.example"))
            self.assertEqual(outcome.serial, serial(whole))
            chain = outcome.client.get_peer_cert_chain(as_cryptography=True) or ()
            self.assertEqual(len(chain), 2)
            self.assertEqual(len(self.taken_on), taken_on + 1)

    def test_in_motion(self) -> None:
        """Nothing is waited for longer than five seconds, though files change all the time."""
        self.begin()
        self.assertLess(2 * ROUND + SETTLE, 5)
        for number, leaf in enumerate((SECOND, THIRD, SECOND, THIRD, SECOND, THIRD)):
            self.write(files_of(leaf))
            self.rounds(1)
            self.assertEqual(len(self.taken_on), (number + 1) // 3)
        self.rounds(2)
        self.settle()
        self.assertEqual(self.shown(), serial(THIRD))

    def test_not_waited_for(self) -> None:
        """SIGHUP takes on at once what is waited for, and who stops does not wait."""
        self.begin()
        self.write({"tls_key.pem": key_octets(SECOND)})
        self.rounds(1)
        self.write(files_of(SECOND))
        self.rounds(1)
        self.successResultOf(self.reload.reload())
        self.assertEqual(self.shown(), serial(SECOND))
        self.settle()
        self.assertEqual(len(self.taken_on), 1)
        self.write({"tls_key.pem": key_octets(THIRD)})
        self.rounds(1)
        self.write(files_of(THIRD))
        self.rounds(1)
        self.reload.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_touched(self) -> None:
        """A file that was written anew with the same content is no news."""
        self.begin()
        self.write(files_of(FIRST))
        self.assertEqual(self.rounds(5), [])
        self.assertEqual(self.taken_on, [])

    def test_directory(self) -> None:
        """A file that is added below config/tls, changed or removed counts at once."""
        self.begin({"tls/a/named.pem": key_octets(SECOND) + chain_octets(SECOND)})
        self.assertEqual(self.shown("second.example"), serial(SECOND))
        self.write({"tls/b/c/new.pem": key_octets(THIRD) + chain_octets(THIRD)})
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial(THIRD))
        renewed = issued("third.example", kind="RSA")
        self.write({"tls/b/c/new.pem": key_octets(renewed) + chain_octets(renewed)})
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial(renewed))
        (self.path / "tls/a/named.pem").unlink()
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial(FIRST))

    def test_directory_comes(self) -> None:
        """config/tls itself may come later than the server."""
        self.begin()
        self.write({"tls/new.pem": key_octets(SECOND) + chain_octets(SECOND)})
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial(SECOND))
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
        self.assertEqual(self.shown(), serial(SECOND))

    def test_ticket(self) -> None:
        """A client with a session from before gets a full handshake, and nothing worse."""
        self.begin()
        for version in (TLS_1_2, TLS_1_3):
            self.write(files_of(FIRST))
            self.reload.reload()
            context = client_context(version)
            before = to_us(self.server, client_on(context))
            session = before.client.get_session()
            assert session is not None
            self.write(files_of(SECOND))
            self.reload.reload()
            again = client_on(context)
            again.set_session(session)
            outcome = to_us(self.server, again)
            self.assertTrue(outcome.succeeded, outcome)
            self.assertEqual(outcome.serial, serial(SECOND))

    def test_open_connections(self) -> None:
        """A handshake under way ends with the certificate it began with."""
        self.begin()
        client = plain_client()
        hello = hello_of(client)
        creator = self.server.connection_creator(peer_of(), hello)
        self.write(files_of(SECOND))
        self.rounds()
        outcome = shake_hands(client, begun(creator, hello))
        self.assertTrue(outcome.succeeded, outcome)
        self.assertEqual(outcome.serial, serial(FIRST))


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
        self.assertEqual(self.shown(), serial(SECOND))

    def test_mended(self) -> None:
        """Once the mistake is mended, the change counts without further ado."""
        self.begin()
        self.refused({"tls_cert.pem": chain_octets(SECOND)}, "tls_cert.pem")
        self.write({"tls_key.pem": key_octets(SECOND)})
        self.rounds()
        self.assertEqual(self.shown(), serial(SECOND))

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
        self.assertEqual(self.shown(), serial(SECOND))

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
        self.assertEqual(self.shown(), serial(SECOND))


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
        self.assertEqual(self.shown(), serial(SECOND))
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
        self.assertEqual(self.shown(), serial(SECOND))


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
