"""Tests for harakatls.plugins.limit_settings."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.mail.address import parse_address
from harakatls.plugins.limit_settings import LimitSettings, Rate, Rates
from harakatls.redis.settings import RedisSettings
from tests.plugins.support import config_of

ALL = (
    "concurrency",
    "recipients",
    "unrecognized_commands",
    "errors",
    "rate_conn",
    "rate_rcpt_host",
    "rate_rcpt_sender",
    "rate_rcpt",
    "rate_rcpt_null",
)


class LimitSettingsTests(SynchronousTestCase):
    config: ConfigDirectory

    def load(self, text: str, **others: str) -> LimitSettings:
        files = {name.replace("_", "."): content for name, content in others.items()}
        self.config = config_of(self, {"limit.ini": text, **files})
        return LimitSettings.load(self.config, 30.0)

    def refused(self, text: str) -> str:
        with self.assertRaises(ConfigError) as caught:
            self.load(text)
        return str(caught.exception)

    def test_nothing_without_a_word(self) -> None:
        """Whoever lists the plugin alone limits nothing, as in Haraka."""
        self.assertEqual(self.load(""), LimitSettings())

    def test_defaults(self) -> None:
        """A limit that is switched on has the numbers of Haraka's plugin."""
        settings = self.load("".join(f"[{name}]\nenabled=true\n" for name in ALL))
        self.assertEqual(settings.tarpit_delay, 3)
        self.assertEqual(settings.concurrency, 3)
        self.assertEqual(settings.recipients, 0)
        self.assertIsNone(settings.recipients_relaying)
        self.assertEqual((settings.unrecognized_commands, settings.errors), (10, 10))
        self.assertEqual(settings.rate_conn and settings.rate_conn.default, Rate(5, 60))
        for rates in (settings.rate_rcpt_host, settings.rate_rcpt_sender, settings.rate_rcpt):
            self.assertEqual(rates and rates.default, Rate(50, 300))
        self.assertEqual(settings.rate_rcpt_null and settings.rate_rcpt_null.default, Rate(1, 60))
        self.assertEqual(self.config.warnings, ())

    def test_written_down_but_off(self) -> None:
        """A section without enabled=true does nothing, and the log says so."""
        self.assertEqual(self.load("[concurrency]\nmax=2\n"), LimitSettings())
        (warning,) = self.config.warnings
        self.assertIn("limit.ini [concurrency]", warning)
        self.assertIn("enabled=true", warning)
        self.load("[concurrency]\nenabled=false\nmax=2\n")
        self.assertEqual(self.config.warnings, ())

    def test_rates(self) -> None:
        """Counts, with and without a time and its unit."""
        lines = "default=7\na.example=1/30\nb.example=2/5M\nc.example=3/2h;\nd.example=4/1d\n"
        rates = self.load(f"[rate_rcpt]\nenabled=true\n{lines}").rate_rcpt
        assert rates is not None
        self.assertEqual(rates.default, Rate(7, 60))
        expected = (Rate(1, 30), Rate(2, 300), Rate(3, 7200), Rate(4, 86400))
        for domain, rate in zip("abcd", expected, strict=True):
            address = parse_address(f"bob@{domain}.example")
            self.assertEqual(rates.of_address(address), (f"{domain}.example", rate))

    def test_mistakes(self) -> None:
        """What cannot be used is named with its section and key."""
        for text, words in (
            (
                "[rate_conn]\nenabled=true\ndefault=many\n",
                ("[rate_conn] default", "'many'", "50/5m"),
            ),
            ("[rate_conn]\nenabled=true\ndefault=5/0\n", ("[rate_conn] default", "no time")),
            ("[rate_conn]\nenabled=true\ndefault=5/1w\n", ("[rate_conn] default", "'5/1w'")),
            ("[rate_conn]\nenabled=true\na@b=5\n", ("[rate_conn] a@b", "neither an address")),
            ("[rate_rcpt]\nenabled=true\n@=5\n", ("[rate_rcpt] @", "neither a mail address")),
            ("[rate_rcpt]\nenabled=ture\n", ("[rate_rcpt] enabled", "'ture'")),
            ("[concurrency]\nenabled=true\nmax=-1\n", ("[concurrency] max", "'-1'")),
            ("tarpit_delay=30\n", ("tarpit_delay", "30")),
        ):
            problem = self.refused(text)
            for word in ("limit.ini", *words):
                self.assertIn(word, problem)

    def test_elsewhere(self) -> None:
        """What outbound.ini does here, and what needs another plugin, is told."""
        self.load("[outbound]\nenabled=true\na.example=3\n[rate_conn_history]\nplugin=karma\n")
        first, second = self.config.warnings
        self.assertIn("[destination_concurrency] in outbound.ini", first)
        self.assertIn("limit.ini [rate_conn_history]", second)

    def test_redis(self) -> None:
        """redis.ini says where to count, and [redis] of limit.ini wins."""
        self.assertIsNone(self.load("").redis)
        self.assertEqual(
            self.load("[redis]\ndatabase=4\n", redis_ini="[server]\nhost=192.0.2.6\n").redis,
            RedisSettings("192.0.2.6", database=4),
        )


class RatesTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """The longest part of the address counts, else that of its name, else its own."""
        keys = ("192.0.2.1", "192.0.2", "10", "2001:db8", "mail.example.com", "com")
        rates = Rates({key: Rate(number) for number, key in enumerate(keys, 1)}, Rate(9))
        for address, name, key, count in (
            ("192.0.2.1", None, "192.0.2.1", 1),
            ("192.0.2.10", None, "192.0.2", 2),
            ("10.9.8.7", "mail.example.com", "10", 3),
            ("100.9.8.7", None, "100.9.8.7", 9),
            ("2001:db8::1", None, "2001:db8", 4),
            ("2001:db80::1", None, "2001:db80:0:0::/64", 9),
            ("::ffff:192.0.2.1", None, "192.0.2.1", 1),
            ("198.51.100.1", "a.MAIL.example.com", "mail.example.com", 5),
            ("198.51.100.1", "mail.example.net.com", "com", 6),
            ("198.51.100.1", "example.net", "198.51.100.1", 9),
        ):
            self.assertEqual(rates.of_host(address, name), (key, Rate(count)), address)

    def test_one_who_has_many_addresses(self) -> None:
        """All addresses of a /64 are one host, and those of the next are another."""
        rates = Rates({}, Rate(9))
        first, _ = rates.of_host("2001:db8:0:1::1")
        self.assertEqual(rates.of_host("2001:db8:0:1:ffff::")[0], first)
        self.assertNotEqual(rates.of_host("2001:db8:0:2::1")[0], first)

    def test_mail_addresses(self) -> None:
        """The whole address, then its domain, and those above it; case does not matter."""
        keys = ("bob@a.example", "a.example", "example")
        rates = Rates({key: Rate(number) for number, key in enumerate(keys, 1)}, Rate(9))
        for address, key, count in (
            ("Bob@A.example", "bob@a.example", 1),
            ("eve@a.example", "a.example", 2),
            ("eve@b.example", "example", 3),
            ("Eve@b.test", "eve@b.test", 9),
        ):
            self.assertEqual(rates.of_address(parse_address(address)), (key, Rate(count)), address)
