"""Tests for harakatls.redis.settings."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.redis.settings import RedisSettings
from harakatls.tls.settings import TLSSettings
from tests.config.files import write_config


class RedisSettingsTests(SynchronousTestCase):
    config: ConfigDirectory

    def load(self, redis_ini: str = "", tls_ini: str = "") -> RedisSettings | None:
        self.config = write_config(self, {"redis.ini": redis_ini, "tls.ini": tls_ini})
        return TLSSettings.load(self.config).nogo.redis

    def assert_refused(self, *words: str, redis_ini: str = "", tls_ini: str = "") -> None:
        with self.assertRaises(ConfigError) as caught:
            self.load(redis_ini, tls_ini)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("hidden", str(caught.exception))

    def test_not_configured(self) -> None:
        """Without a word about a server, none is looked for: the file beside the queue will do."""
        self.assertIsNone(TLSSettings.load(write_config(self)).nogo.redis)
        self.assertIsNone(self.load("[server]\n[opts]\n", "[redis]\ndisable_expiry=5\n"))

    def test_server(self) -> None:
        """[server] of redis.ini says where; what is left out is as usual."""
        self.assertEqual(self.load("[server]\nhost=192.0.2.1\n"), RedisSettings("192.0.2.1"))
        self.assertEqual(self.load("[server]\nport=6380\n"), RedisSettings(port=6380))
        self.assertEqual(
            self.load("[server]\nip=192.0.2.9\ndb=2\n"), RedisSettings("192.0.2.9", database=2)
        )
        self.assertEqual(self.config.warnings, ())

    def test_opts(self) -> None:
        """[opts] holds for all of it."""
        self.assertEqual(
            self.load("[opts]\ndatabase=3\npassword=hidden words\n"),
            RedisSettings(database=3, password="hidden words"),
        )

    def test_overlay(self) -> None:
        """[redis] of tls.ini names another server, and takes over what it does not say."""
        self.assertEqual(
            self.load(
                "[server]\nhost=192.0.2.1\nport=6380\n[opts]\ndb=1\npassword=hidden\n",
                "[redis]\nhost=[2001:db8::1]\ndb=4\n",
            ),
            RedisSettings("2001:db8::1", 6380, 4, "hidden"),
        )
        self.assertEqual(self.load(tls_ini="[redis]\nport=6381\n"), RedisSettings(port=6381))

    def test_the_favourite_name(self) -> None:
        """Of an old and a new name for the same, the new one counts."""
        settings = self.load("[server]\nip=192.0.2.1\nhost=192.0.2.2\ndbid=1\ndatabase=2\ndb=3\n")
        self.assertEqual(settings, RedisSettings("192.0.2.2", database=3))

    def test_mistakes(self) -> None:
        """A value that cannot be used is named, in either file; a password never."""
        for line in (
            "port=0",
            "port=65536",
            "port=redis",
            "db=-1",
            "database=x",
            "host=",
            "ip=a b",
        ):
            key = line.partition("=")[0]
            self.assert_refused("redis.ini [server]", key, redis_ini=f"[server]\n{line}\n")
            self.assert_refused("redis.ini [opts]", key, redis_ini=f"[opts]\n{line}\n")
            self.assert_refused("tls.ini [redis]", key, tls_ini=f"[redis]\n{line}\n")
        self.assert_refused("password", redis_ini="[opts]\npassword[]=hidden\n")

    def test_without_effect(self) -> None:
        """What nothing comes of is told."""
        self.load("[server]\nhostt=192.0.2.1\n[pubsub]\nhost=192.0.2.1\n[karma]\ndb=1\n")
        self.assertEqual(len(self.config.warnings), 3, self.config.warnings)
        self.assertIn("did you mean host?", "".join(self.config.warnings))

    def test_not_shown(self) -> None:
        """The password is in nothing that is shown or logged."""
        settings = self.load("[opts]\npassword=hidden\n")
        self.assertNotIn("hidden", f"{settings} {settings!r}")
        self.assertEqual(str(RedisSettings("2001:db8::1", 1, 2)), "[2001:db8::1]:1/2")
