"""Tests for harakatls.inbound.settings."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.hosts import HostList
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from tests.config.files import write_config


class SettingsTestCase(SynchronousTestCase):
    def load(self, smtp: str = "", connection: str = "", **files: str) -> InboundSettings:
        """The settings from these files; expects that there is nothing to warn of."""
        config = write_config(
            self, {"me": "mx.example", "smtp.ini": smtp, "connection.ini": connection, **files}
        )
        settings = InboundSettings.load(config)
        self.assertEqual(config.warnings, ())
        return settings

    def refused(self, smtp: str = "", connection: str = "") -> str:
        """The error for the operator."""
        config = write_config(
            self, {"me": "mx.example", "smtp.ini": smtp, "connection.ini": connection}
        )
        with self.assertRaises(ConfigError) as caught:
            InboundSettings.load(config)
        return str(caught.exception)


class ListenTests(SettingsTestCase):
    def listeners(self, value: str) -> tuple[str, ...]:
        return tuple(str(one) for one in self.load(f"listen={value}").listeners)

    def test_default(self) -> None:
        """Without a word, mail is taken on port 25 of all addresses."""
        settings = self.load()
        self.assertEqual(settings.listeners, (ListenerSettings("::", 25),))
        self.assertTrue(settings.listens_by_default)
        self.assertFalse(self.load("listen=[::0]:25").listens_by_default)
        self.assertFalse(self.load("port=25").listens_by_default)

    def test_forms(self) -> None:
        """Each way to write an address is understood, and the port is 25 if there is none."""
        for value, expected in (
            ("127.0.0.1:2525", "127.0.0.1:2525"),
            ("127.0.0.1", "127.0.0.1:25"),
            ("[::1]:2525", "[::1]:2525"),
            ("[::1]", "[::1]:25"),
            ("::1", "[::1]:25"),
            ("::", "[::]:25"),
            ("[::0]:25", "[::]:25"),
            ("2001:DB8::25", "[2001:db8::25]:25"),
            ("1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:25"),
            ("1:2:3:4:5:6:7:8:2525", "[1:2:3:4:5:6:7:8]:2525"),
            ("[127.0.0.1]:26", "127.0.0.1:26"),
            ("2525", "[::]:2525"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ):
            self.assertEqual(self.listeners(value), (expected,), value)

    def test_list(self) -> None:
        """Several listeners stand between commas, or in an array, in any mixture of families."""
        self.assertEqual(
            self.listeners("127.0.0.1:2525 , [::1]:2525,10.0.0.1,"),
            ("127.0.0.1:2525", "[::1]:2525", "10.0.0.1:25"),
        )
        self.assertEqual(
            [str(one) for one in self.load("listen[]=10.0.0.1\nlisten[]=[::1]:26").listeners],
            ["10.0.0.1:25", "[::1]:26"],
        )

    def test_older_keys_come_first(self) -> None:
        """listen_host and port of old files still count."""
        listeners = self.load("listen=10.0.0.1:26\nlisten_host=127.0.0.1\nport=2525").listeners
        self.assertEqual([str(one) for one in listeners], ["127.0.0.1:2525", "10.0.0.1:26"])
        self.assertEqual(self.load("port=2525").listeners, (ListenerSettings("::", 2525),))
        self.assertEqual(self.load("listen_host=::1").listeners, (ListenerSettings("::1", 25),))

    def test_implicit_tls(self) -> None:
        """Listeners on smtps_port, and no others, speak TLS from the start."""

        def secure(text: str) -> list[bool]:
            return [one.implicit_tls for one in self.load(text).listeners]

        self.assertEqual(secure("listen=127.0.0.1:465,127.0.0.1:25"), [True, False])
        self.assertEqual(
            secure("listen=127.0.0.1:2465,127.0.0.1:465,[::1]:2465\nsmtps_port=2465"),
            [True, False, True],
        )
        self.assertEqual(secure("listen=127.0.0.1:0\nsmtps_port=0"), [False])
        self.assertEqual(secure("port=465"), [True])

    def test_mistakes(self) -> None:
        """What cannot be listened on is told with what was expected."""
        for value, words in (
            ("/run/smtp.sock:660", "is a unix socket, which is not supported"),
            ("localhost:25", "'localhost:25' is not an IP address"),
            ("mx.example", "is not an IP address"),
            ("127.0.0.1:smtp", "has no port"),
            ("127.0.0.1:70000", "has no port from 0 to 65535"),
            ("127.0.0.1:", "has no port"),
            ("127.0.0.1:٢٥", "has no port"),
            ("127.0.0.256:25", "is not an IP address"),
            ("[::1", "is not an IP address"),
            ("[::1]25", "is not an IP address"),
            ("::1::2", "is not an IP address"),
            ("::1:2525", "put the address in brackets"),
            ("*:25", "is not an IP address"),
            ("99999", "has no port"),
        ):
            error = self.refused(f"listen={value}")
            self.assertTrue(error.startswith(f"smtp.ini listen: {value!r} "), error)
            self.assertIn(words, error)
            self.assertIn("expected addresses with ports", error)
        self.assertIn("names no address", self.refused("listen="))
        self.assertIn("names no address", self.refused("listen=,"))
        self.assertIn(
            "listen: 10.0.0.1:25 is listed twice", self.refused("listen=10.0.0.1,10.0.0.1:25")
        )
        self.assertIn("smtps_port: '70000' is not", self.refused("smtps_port=70000"))
        self.assertIn("smtp.ini listen_host: 'here' is not", self.refused("listen_host=here"))

    @given(st.text(".:[]0123456789af,/ ", max_size=24))
    def test_anything(self, value: str) -> None:
        """Whatever is written there is understood or told, never a traceback."""
        try:
            listeners = InboundSettings.load(
                write_config(self, {"me": "mx.example", "smtp.ini": f"listen={value}"})
            ).listeners
        except ConfigError as error:
            self.assertEqual(error.key, "listen")
        else:
            self.assertTrue(listeners)
            for one in listeners:
                self.assertIn(one.port, range(65536))


class LimitTests(SettingsTestCase):
    def test_defaults(self) -> None:
        """Without files everything is as documented."""
        self.assertEqual(self.load(), InboundSettings(me="mx.example", listens_by_default=True))

    def test_all_keys(self) -> None:
        """Each key reaches its setting."""
        settings = self.load(
            "inactivity_timeout=60\nuser=mail\ngroup=daemon\n",
            "smtputf8=false\n"
            "[headers]\nadd_received=off\nshow_version=no\nmax_received=50\n"
            "[max]\nbytes=10M\nline_length=1024\ndata_line_length=998\nrecipients=100\n"
            "bad_commands=5\n"
            "[message]\ngreeting[]=one\ngreeting[]=two\nhelo=hi\nclose=bye\n",
        )
        self.assertEqual(
            settings,
            InboundSettings(
                me="mx.example",
                listens_by_default=True,
                inactivity_timeout=60.0,
                user="mail",
                group="daemon",
                smtputf8=False,
                add_received=False,
                show_version=False,
                max_received=50,
                max_bytes=10 << 20,
                max_line_length=1024,
                max_data_line_length=998,
                max_recipients=100,
                max_bad_commands=5,
                greeting=("one", "two"),
                helo="hi",
                close="bye",
            ),
        )

    def test_empty_account_is_none(self) -> None:
        """user= without a name means to stay who we are."""
        settings = self.load("user=\ngroup=\n")
        self.assertEqual((settings.user, settings.group), (None, None))

    def test_unlimited_size(self) -> None:
        """0 octets stands for no limit, as in Haraka."""
        self.assertEqual(self.load(connection="[max]\nbytes=0").max_bytes, 0)

    def test_handshake_timeout(self) -> None:
        """tls.timeout limits the handshake; without limit the silence still is."""
        self.assertEqual(self.load(plugin_timeout="20").handshake_timeout, 20.0)
        self.assertEqual(
            self.load(**{"plugin_timeout": "20", "tls.timeout": "10"}).handshake_timeout, 10.0
        )
        self.assertEqual(
            self.load("inactivity_timeout=99", **{"tls.timeout": "0"}).handshake_timeout, 99.0
        )

    def test_values_out_of_range(self) -> None:
        """A limit that would break SMTP, or none where there must be one, is refused."""
        for smtp, connection, words in (
            ("inactivity_timeout=0", "", "smtp.ini inactivity_timeout: '0' is not"),
            ("inactivity_timeout=never", "", "'never' is not a number of seconds"),
            ("", "[max]\nline_length=511", "connection.ini [max] line_length: '511' is not"),
            ("", "[max]\nrecipients=99", "[max] recipients: '99' is not"),
            ("", "[max]\nbad_commands=0", "[max] bad_commands: '0' is not"),
            ("", "[max]\nbytes=lots", "[max] bytes: 'lots' is not a size"),
            ("", "[max]\ndata_line_length=10", "[max] data_line_length: '10' is not"),
            ("", "[headers]\nadd_received=perhaps", "'perhaps' is neither true nor false"),
        ):
            self.assertIn(words, self.refused(smtp, connection))

    def test_texts_fit_for_replies(self) -> None:
        """No text of the operator can break the form of a reply."""
        for text in ("grüß gott", "bell\x07", "", "x" * 401):
            self.assertIn(
                "connection.ini [message] helo: ", self.refused("", f"[message]\nhelo={text}\n")
            )
        self.assertIn(
            "[message] greeting: 'ä' is not", self.refused("", "[message]\ngreeting[]=ä\n")
        )


class ProxyTests(SettingsTestCase):
    def proxies(self, *lines: str) -> HostList:
        text = "\n".join(("[haproxy]", *lines))
        return InboundSettings.load(write_config(self, {"connection.ini": text})).proxies

    def test_hosts(self) -> None:
        """As in Haraka, an IPv4 address is itself, and an IPv6 address its /64."""
        proxies = self.proxies(
            "hosts[]=10.0.0.5", "hosts[]=2001:db8::7, 192.0.2.0/24", "hosts[]=2001:db8:1::/128"
        )
        for host, trusted in (
            ("10.0.0.5", True),
            ("::ffff:10.0.0.5", True),
            ("10.0.0.6", False),
            ("2001:db8::ffff", True),
            ("2001:db8:0:1::7", False),
            ("192.0.2.200", True),
            ("2001:db8:1::", True),
            ("2001:db8:1::1", False),
        ):
            self.assertEqual(host in proxies, trusted, host)

    def test_none(self) -> None:
        """Nobody is trusted unless somebody is named, or when all is switched off."""
        self.assertFalse(self.proxies())
        self.assertFalse(self.proxies("hosts[]=10.0.0.5", "enabled=false"))

    def test_wrong(self) -> None:
        """A name is refused, and what is nothing at all; even while it is switched off."""
        for text in ("proxy.example", "10.0.0.0/33", "10.0.0", "*.example", "[::1]:25"):
            with self.assertRaises(ConfigError) as caught:
                self.proxies(f"hosts[]={text}", "enabled=false")
            self.assertIn("connection.ini [haproxy] hosts: ", str(caught.exception))
            self.assertIn(
                f"'{text}' is neither an address nor a network; expected", str(caught.exception)
            )


class WarningTests(SettingsTestCase):
    def warnings(self, files: dict[str, str]) -> tuple[str, ...]:
        config = write_config(self, {"me": "mx.example", **files})
        InboundSettings.load(config)
        return config.warnings

    def test_what_haraka_knows(self) -> None:
        """A setting of Haraka's without effect here is told, never silent."""
        for text in (
            "nodes=4",
            "daemonize=true",
            "daemon_log_file=x",
            "daemon_pid_file=x",
            "ignore_bad_plugins=1",
            "graceful_shutdown=true",
        ):
            key = text.partition("=")[0]
            (warning,) = self.warnings({"smtp.ini": text})
            self.assertTrue(warning.startswith(f"smtp.ini {key}: has no effect in harakatls"))
        for section, text in (
            ("main", "spool_dir=/tmp"),
            ("main", "spool_after=-1"),
            ("main", "strict_rfc1869=true"),
            ("main", "postel=true"),
            ("max", "mime_parts=1000"),
            ("uuid", "banner_chars=6"),
            ("uuid", "deny_chars=6"),
        ):
            (warning,) = self.warnings({"connection.ini": f"[{section}]\n{text}\n"})
            self.assertIn("has no effect in harakatls", warning)
            self.assertIn(text.partition("=")[0].removesuffix("[]"), warning)

    def test_older_files(self) -> None:
        """A file that Haraka has given up is told with what to write instead."""
        self.assertEqual(
            self.warnings({"databytes": "1000", "smtp.yaml": ""}),
            (
                "smtp.yaml: has no effect in harakatls; write smtp.ini",
                "databytes: has no effect in harakatls; set bytes in connection.ini [max]",
            ),
        )

    def test_unknown_keys(self) -> None:
        """A key that nobody knows is told with the likely one."""
        self.assertEqual(
            self.warnings({"smtp.ini": "lisen=1.2.3.4\n", "connection.ini": "[max]\nfoo=1\n"}),
            (
                "smtp.ini lisen: unknown key; did you mean listen?",
                "connection.ini [max] foo: unknown key",
            ),
        )
