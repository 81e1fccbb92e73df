"""Tests for harakatls.outbound.settings."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.hosts import HostList
from harakatls.outbound.settings import OutboundSettings, doubling_intervals, parse_intervals
from tests.config.files import write_config


class LoadTests(SynchronousTestCase):
    def load(self, text: str = "", files: dict[str, str] | None = None) -> OutboundSettings:
        """The settings from these files; expects that there is nothing to warn of."""
        config = write_config(self, {"outbound.ini": text, **(files or {})})
        settings = OutboundSettings.load(config)
        self.assertEqual(config.warnings, ())
        return settings

    def refused(self, text: str, files: dict[str, str] | None = None) -> str:
        config = write_config(self, {"outbound.ini": text, **(files or {})})
        with self.assertRaises(ConfigError) as caught:
            OutboundSettings.load(config)
        return str(caught.exception)

    def test_defaults(self) -> None:
        """Without a file everything is as documented."""
        self.assertEqual(self.load(), OutboundSettings())
        self.assertEqual(len(self.load().temp_fail_intervals), 12)

    def test_all_keys(self) -> None:
        """Each key reaches its setting."""
        settings = self.load(
            "disabled=true\nconcurrency_max=7\nenable_tls=false\ntemp_fail_intervals=10s\n"
            "always_split=true\nreceived_header=queued here\nconnect_timeout=1\n"
            "handshake_timeout=2\ngreeting_timeout=3\ncommand_timeout=4\ndata_timeout=5\n"
            "end_of_data_timeout=6\nlocal_mx_ok=true\ninet_prefer=v6\ndelay_warning_time=4h\n"
            "chunking=false\n",
            {"smtp.ini": "public_ip=192.0.2.25"},
        )
        self.assertEqual(
            settings,
            OutboundSettings(
                disabled=True,
                concurrency_max=7,
                enable_tls=False,
                temp_fail_intervals=(10.0,),
                always_split=True,
                received_header="queued here",
                connect_timeout=1.0,
                handshake_timeout=2.0,
                greeting_timeout=3.0,
                command_timeout=4.0,
                data_timeout=5.0,
                end_of_data_timeout=6.0,
                local_mx_ok=True,
                inet_prefer="v6",
                public_ip=HostList.parse(["192.0.2.25"]),
                delay_warning_time=14400.0,
                chunking=False,
            ),
        )

    def test_schedule(self) -> None:
        """maxTempFailures counts failures; temp_fail_intervals wins over it."""
        self.assertEqual(self.load("maxTempFailures=3").temp_fail_intervals, (64.0, 128.0))
        self.assertEqual(self.load("maxTempFailures=1").temp_fail_intervals, ())
        self.assertEqual(
            self.load("maxTempFailures=3\ntemp_fail_intervals=none").temp_fail_intervals, ()
        )
        self.assertEqual(self.load("temp_fail_intervals=1m ; comment").temp_fail_intervals, (60.0,))

    def test_received_header(self) -> None:
        """The word disabled leaves the field out; nothing can break out of its comment."""
        self.assertIsNone(self.load("received_header=disabled").received_header)
        for wrong in ("", "a) from evil (b", "back\\slash", "grün", "x" * 201):
            error = self.refused(f"received_header={wrong}")
            self.assertTrue(error.startswith("outbound.ini received_header: "), error)

    def test_older_files(self) -> None:
        """Each of Haraka's older files still counts where outbound.ini says nothing."""
        settings = self.load(
            "",
            {
                "outbound.disabled": "true",
                "outbound.concurrency_max": "# few\n5\n",
                "outbound.enable_tls": "false",
                "outbound.temp_fail_intervals": "5s, 6s",
                "outbound.maxTempFailures": "2",
                "outbound.received_header": "x",
            },
        )
        self.assertEqual(
            settings,
            OutboundSettings(
                disabled=True,
                concurrency_max=5,
                enable_tls=False,
                temp_fail_intervals=(5.0, 6.0),
                received_header="x",
            ),
        )
        self.assertEqual(
            self.load("", {"outbound.maxTempFailures": "2"}).temp_fail_intervals, (64.0,)
        )
        self.assertIn(
            "outbound.concurrency_max concurrency_max: 'many' is not a whole number",
            self.refused("", {"outbound.concurrency_max": "many"}),
        )

    def test_ini_wins_over_older_file(self) -> None:
        """Of two places the newer one counts, and the operator learns of the other."""
        config = write_config(
            self, {"outbound.ini": "concurrency_max=9", "outbound.concurrency_max": "5"}
        )
        self.assertEqual(OutboundSettings.load(config).concurrency_max, 9)
        self.assertEqual(
            config.warnings,
            ("outbound.concurrency_max: has no effect, since outbound.ini sets concurrency_max",),
        )

    def test_mistakes(self) -> None:
        """What cannot be used is told with what was expected."""
        for text, words in (
            ("concurrency_max=0", "concurrency_max: '0' is not a whole number from 1"),
            ("maxTempFailures=21", "maxTempFailures: '21' is not a whole number from 1 to 20"),
            ("maxTempFailures=0", "maxTempFailures: '0' is not"),
            ("inet_prefer=v5", "inet_prefer: 'v5' is not one of default, v4, v6"),
            ("connect_timeout=0", "connect_timeout: '0' is not a number of seconds"),
            ("end_of_data_timeout=soon", "end_of_data_timeout: 'soon' is not"),
            ("enable_tls=maybe", "enable_tls: 'maybe' is neither true nor false"),
            ("delay_warning_time=4", "delay_warning_time: '4' is not a time; expected a time such"),
            ("delay_warning_time=99999d", "delay_warning_time: '99999d' is not a time"),
            ("temp_fail_intervals=60 min", "temp_fail_intervals: '60 min' is not an interval"),
        ):
            self.assertIn(f"outbound.ini {words}", self.refused(text))

    def test_without_effect(self) -> None:
        """What Haraka knows or knew, and what nobody knows, is told."""
        config = write_config(
            self,
            {
                "outbound.ini": "ipv6_enabled=1\nfoo=1\n",
            },
        )
        OutboundSettings.load(config)
        self.assertEqual(
            config.warnings,
            (
                "outbound.ini ipv6_enabled: has no effect in harakatls; use inet_prefer",
                "outbound.ini foo: unknown key",
            ),
        )


class IntervalTests(SynchronousTestCase):
    def test_default_schedule(self) -> None:
        """The usual schedule is twelve retries within three days."""
        intervals = doubling_intervals(13)
        self.assertEqual((len(intervals), intervals[0], intervals[-1]), (12, 64.0, 131072.0))
        self.assertAlmostEqual(sum(intervals) / 3600, 72.8, 1)

    def test_grammar(self) -> None:
        """Schedules written for Haraka mean the same here."""
        self.assertEqual(parse_intervals("10s, 1m*2"), (10.0, 60.0, 60.0))
        long = parse_intervals("30s, 1m, 5m, 9m, 15m*3, 30m*2, 1h*3, 2h*3, 1d")
        self.assertEqual((len(long), long[-1]), (16, 86400.0))
        self.assertEqual(parse_intervals("none"), ())
        self.assertEqual(parse_intervals(" None; "), ())
        self.assertEqual(parse_intervals("1 M * 2,5S"), (60.0, 60.0, 5.0))

    def test_mistakes(self) -> None:
        """What is no schedule is told, not replaced by another in silence."""
        for wrong in (
            "",
            "60 min",
            "60",
            "1m,",
            "4s",
            "0s",
            "1m*0",
            "1m*",
            "-1m",
            "1.5h",
            "1m*9999",
            "none, 1m",
            "1m 2m",
            "999999999d",
            "٣m",
            "500m*600, 500m*600",
        ):
            self.assertRaises(ValueError, parse_intervals, wrong)

    @given(st.lists(st.tuples(st.integers(5, 10**6), st.integers(1, 9)), min_size=1, max_size=20))
    def test_round_trip(self, entries: list[tuple[int, int]]) -> None:
        """Every schedule that can be written is read as it was meant."""
        text = ", ".join(f"{seconds}s*{count}" for seconds, count in entries)
        expected = [float(seconds) for seconds, count in entries for _ in range(count)]
        self.assertEqual(parse_intervals(text), tuple(expected))

    @given(st.text("0123456789smhd*, none", max_size=20))
    def test_anything(self, text: str) -> None:
        """Whatever is written is a schedule of usable waits, or told."""
        try:
            intervals = parse_intervals(text)
        except ValueError as problem:
            self.assertRegex(str(problem), "expected intervals|more than 1000")
        else:
            self.assertTrue(all(wait >= 5 for wait in intervals))
