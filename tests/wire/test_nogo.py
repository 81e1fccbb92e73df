"""Hosts with which TLS failed, remembered by a running server: in a real Redis, and without one."""

import json
import smtplib
import ssl
import time
from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    Certificates,
    Instance,
    need,
    run_harakatls,
    temporary_directory,
    wait_until,
)
from tests.wire.redis_server import RedisServer
from tests.wire.sink import Sink

OUTBOUND, INBOUND = "no_tls|127.0.0.1", "no_tls|127.0.0.1|inbound"
SWITCHED_ON = "[redis]\ndisable_for_failed_hosts=true\n"
RELAYED = "x@elsewhere.test"
TEXT = "Message-ID: <{0}@mx.test>\r\nSubject: {0}\r\n\r\nHello\r\n"
ROUTE = '[domains]\nany={{"nexthop":"127.0.0.1:{}"}}\n'
AT_ONCE = 3.0  # seconds for what takes none, on a busy machine; Redis alone would take far longer


class BrokenTLS:
    """In place of an `ssl.SSLContext`: each handshake is cut."""

    def wrap_socket(self, connection: Any, server_side: bool) -> Any:
        raise OSError("cut")


def broken_sink() -> Sink:
    """A next hop that offers STARTTLS, and cuts the connection in the handshake."""
    sink = Sink(*Certificates().write_pair(temporary_directory(), "127.0.0.1"))
    sink._tls = BrokenTLS()  # type: ignore[assignment]
    return sink


class NoGoCase(SynchronousTestCase):
    def start(self, tls_ini: str, **files: str) -> Instance:
        """A server that relays all mail to self.sink."""
        self.sink = broken_sink()
        self.addCleanup(self.sink.close)
        instance = Instance.make(
            files={
                "tls.ini": tls_ini,
                "relay_acl_allow": "127.0.0.1\n",
                "relay.ini": "[relay]\nacl=true\nforce_routing=true\n",
                "relay_dest_domains.ini": ROUTE.format(self.sink.port),
                "outbound.ini": "temp_fail_intervals=5s*3\nlocal_mx_ok=true\n",
                **{name.replace("_ini", ".ini"): text for name, text in files.items()},
            }
        )
        self.addCleanup(instance.remove)
        instance.start()
        self.instance = instance
        return instance

    def send(self, subject: str) -> None:
        """One message for the sink; we are served at once."""
        begin = time.monotonic()
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.sendmail("you@example.org", [RELAYED], TEXT.format(subject))
        self.assertLess(time.monotonic() - begin, AT_ONCE)

    def delivered(self, subject: str) -> None:
        name = f"<{subject}@mx.test>"
        wait_until(lambda: self.sink.messages[name], f"message {subject}: {self.instance.log()}")

    def offers_starttls(self) -> bool:
        begin = time.monotonic()
        with smtplib.SMTP("127.0.0.1", self.instance.port, timeout=20) as client:
            client.ehlo("client.test")
            self.assertLess(time.monotonic() - begin, AT_ONCE)
            return client.has_extn("starttls")

    def nogo(self, *arguments: str, status: int = 0) -> str:
        done = run_harakatls("nogo", *arguments, "--config", str(self.instance.config))
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout + done.stderr

    def times_in_log(self, text: str) -> int:
        return self.instance.log().count(text)


class RedisTests(NoGoCase):
    def setUp(self) -> None:
        need("redis-server")
        self.redis = RedisServer(password="hidden word")
        self.addCleanup(self.redis.stop)
        self.redis.start()

    def start_with_redis(self, **more: str) -> None:
        self.start(
            SWITCHED_ON + f"port={self.redis.port}\n",
            redis_ini="[server]\nhost=127.0.0.1\nport=1\n[opts]\npassword=hidden word\n",
            **more,
        )

    def test_outbound(self) -> None:
        """A host whose TLS is broken gets its mail; Redis has the documented key for a week."""
        self.start_with_redis()
        self.send("first")
        self.delivered("first")
        value, lifetime = self.redis.ask("GET", OUTBOUND), self.redis.ask("TTL", OUTBOUND)
        assert isinstance(value, str) and isinstance(lifetime, int)
        age = datetime.now(UTC) - datetime.fromisoformat(value)
        self.assertLess(abs(age.total_seconds()), 60)
        self.assertTrue(604800 - 60 <= lifetime <= 604800, lifetime)
        self.assertEqual(self.redis.keys(), 1)
        log = self.instance.log()
        self.assertIn("Marking 127.0.0.1 as non-TLS for 604800 seconds", log)
        self.assertIn("TLS disabled for 127.0.0.1 because it was marked as non-TLS on", log)
        self.assertTrue(self.offers_starttls())
        self.assertFalse((self.instance.directory / "queue" / "nogo.db").exists())
        self.assertNotIn("hidden", log)

    def test_command_line(self) -> None:
        """The operator sees who is marked, and clears one or all, beside the running server."""
        self.start_with_redis()
        self.redis.ask("SET", OUTBOUND, "2026-01-02T03:04:05.000Z", "EX", 604800)
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 3600)
        self.redis.ask("SET", "no_tls|192.0.2.1", "2026-01-02T03:04:05.000Z")
        self.redis.ask("SET", "something else", "x")
        lines = self.nogo("list").splitlines()
        self.assertEqual(len(lines), 3, lines)
        self.assertRegex(lines[0], r"^127\.0\.0\.1  outbound  failed 2026-01-0\d .*\(redis\)$")
        facts = [json.loads(line) for line in self.nogo("list", "--json").splitlines()]
        self.assertEqual(
            [(fact["address"], fact["direction"]) for fact in facts],
            [("127.0.0.1", "outbound"), ("127.0.0.1", "inbound"), ("192.0.2.1", "outbound")],
        )
        self.assertFalse(self.offers_starttls())
        self.assertIn("2 entries cleared", self.nogo("clear", "::ffff:127.0.0.1"))
        self.assertTrue(self.offers_starttls())
        self.assertIn("1 entry cleared", self.nogo("clear"))
        self.assertEqual(self.redis.keys(), 1)
        self.redis.stop()
        self.assertIn("Redis at 127.0.0.1:", self.nogo("list", status=1))

    def test_inbound(self) -> None:
        """A client that is marked is not offered STARTTLS; outbound marks are not about it."""
        self.start_with_redis()
        self.redis.ask("SET", OUTBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        self.assertTrue(self.offers_starttls())
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        self.assertFalse(self.offers_starttls())
        self.assertIn("TLS failed with it, last at 2026-01-02 03:04:05", self.instance.log())
        context = ssl.create_default_context(cafile=str(self.instance.authority))
        with smtplib.SMTP_SSL("127.0.0.1", self.instance.smtps_port, context=context) as client:
            client.ehlo("client.test")
        # TLS does work with this client: from now on it is offered STARTTLS whatever Redis says.
        self.assertTrue(self.offers_starttls())

    def test_stopped_and_started(self) -> None:
        """Mail goes on while Redis is down; it is used again when it is back; each is told once."""
        self.redis.stop()
        self.start_with_redis()  # the server starts without Redis
        self.assertEqual(self.times_in_log("is away"), 0)
        for _ in range(5):
            self.assertTrue(self.offers_starttls())
        self.send("without")
        self.delivered("without")
        self.assertIn("127.0.0.1  outbound", self.nogo("list", status=1))
        self.redis.start()
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        wait_until(lambda: not self.offers_starttls(), "STARTTLS that is not offered")
        self.assertEqual(self.times_in_log(" is away ("), 1)
        self.assertEqual(self.times_in_log(" is back"), 1)
        self.redis.stop()
        self.assertTrue(self.offers_starttls())
        self.redis.start()
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        wait_until(lambda: not self.offers_starttls(), "STARTTLS that is not offered")
        self.assertEqual(self.times_in_log(" is away ("), self.times_in_log(" is back"))
        self.assertNotIn("Traceback", self.instance.log())

    def test_hanging(self) -> None:
        """A Redis that answers nobody holds up no client, no message and no stop of the server."""
        self.start_with_redis()
        self.assertTrue(self.offers_starttls())
        self.redis.hang()
        for _ in range(5):
            self.assertTrue(self.offers_starttls())
        self.send("hanging")
        self.delivered("hanging")
        self.assertEqual(self.times_in_log(" is away ("), 1)
        self.redis.go_on()
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        wait_until(lambda: not self.offers_starttls(), "STARTTLS that is not offered")
        self.assertEqual(self.times_in_log(" is back"), 1)
        self.redis.hang()
        self.assertTrue(self.offers_starttls())
        self.instance.stop()
        self.assertNotIn("Traceback", self.instance.log())

    def test_wrong_password(self) -> None:
        """A Redis that refuses us is as good as none; why is in the log, the password is not."""
        self.start(
            SWITCHED_ON, redis_ini=f"[server]\nport={self.redis.port}\n[opts]\npassword=hidden\n"
        )
        self.assertTrue(self.offers_starttls())
        self.send("refused")
        self.delivered("refused")
        self.assertEqual(self.times_in_log("WRONGPASS"), 1)
        self.assertNotIn("hidden", self.instance.log())

    def test_switched_off(self) -> None:
        """Without the switch Redis never hears of us, and no mail goes in the clear for it."""
        self.start(f"[redis]\nport={self.redis.port}\n", redis_ini="[opts]\npassword=hidden word\n")
        self.redis.ask("SET", INBOUND, "2026-01-02T03:04:05.000Z", "EX", 60)
        self.redis.ask("CONFIG", "RESETSTAT")
        self.assertTrue(self.offers_starttls())
        self.send("off")
        self.delivered("off")  # the second attempt falls back by itself
        statistics = self.redis.ask("INFO", "stats")
        assert isinstance(statistics, str)
        # Each of our own questions is a connection.
        self.assertIn("total_connections_received:1\r\n", statistics)
        self.assertIsNone(self.redis.ask("GET", OUTBOUND))
        self.assertFalse((self.instance.directory / "queue" / "nogo.db").exists())


class FileTests(NoGoCase):
    """Without Redis."""

    def test_restart(self) -> None:
        """What has failed is listed, survives a restart, and is forgotten when it is cleared."""
        instance = self.start(SWITCHED_ON)
        self.send("first")
        self.delivered("first")
        self.assertRegex(self.nogo("list"), r"^127\.0\.0\.1  outbound  failed .* \(file\)\n$")
        instance.stop()
        instance.start()
        self.send("second")
        self.delivered("second")
        self.assertEqual(self.times_in_log("Marking 127.0.0.1"), 1)
        self.assertIn("1 entry cleared", self.nogo("clear", "127.0.0.1"))
        self.assertEqual(self.nogo("list"), "")
        self.send("third")
        self.delivered("third")
        self.assertEqual(self.times_in_log("Marking 127.0.0.1"), 2)

    def test_damaged_file(self) -> None:
        """A file that is none keeps no mail from going, and the operator is told."""
        instance = self.start(SWITCHED_ON)
        (instance.directory / "queue" / "nogo.db").write_bytes(b"?" * 5000)
        self.send("first")
        self.delivered("first")
        self.assertIn("nogo.db", self.nogo("list", status=1))
        self.assertEqual(self.times_in_log("kept in memory alone"), 1)

    def test_switched_off(self) -> None:
        """The command says that nothing is remembered."""
        self.start("")
        self.assertIn("disable_for_failed_hosts is off", self.nogo("list"))
        self.assertIn("0 entries cleared", self.nogo("clear", "192.0.2.1"))
