"""Tests for the samples in config/: what a newcomer starts from."""

import re
from importlib.resources import files
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory, queue_directory
from harakatls.config.timeouts import plugin_timeout
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.outbound.settings import OutboundSettings
from harakatls.plugins import (
    block_me,
    delay_deny,
    lmtp,
    lookup_rdns,
    max_count,
    max_unrecognized,
    quarantine,
    smtp_proxy,
    tarpit,
    toobusy,
    xclient,
)
from harakatls.plugins.aliases import read_aliases
from harakatls.plugins.auth_proxy import AuthProxySettings
from harakatls.plugins.bridge import read_bridge
from harakatls.plugins.host_list import LocalDomains
from harakatls.plugins.limit_settings import LimitSettings
from harakatls.plugins.maildir import maildir_path
from harakatls.plugins.numbers import whole_number
from harakatls.plugins.relay import RelaySettings
from harakatls.plugins.smtp_forward import ForwardSettings
from harakatls.service.logs import LogSettings
from harakatls.tls.settings import TLSSettings
from harakatls.users.file import UsersFile
from tests.config.files import write_config

SAMPLES = files("harakatls.samples")
NAMES = frozenset(sample.name for sample in SAMPLES.iterdir() if sample.is_file())
NAMES_OF_INIS = frozenset(name for name in NAMES if name.endswith(".ini"))
DEFAULT = re.compile(r"^;(?=\S+=)", re.MULTILINE)
EXAMPLE = re.compile(r"^#   (?=\S)", re.MULTILINE)


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def read_all(config: ConfigDirectory) -> tuple[object, ...]:
    """Everything that is read at a start, so that what nobody reads is known."""
    return (
        InboundSettings.load(config),
        OutboundSettings.load(config),
        TLSSettings.load(config).outbound,
        TLSSettings.load(config).inbound,
        TLSSettings.load(config).nogo,
        LogSettings.load(config),
        RelaySettings.load(config),
        LocalDomains.load(config),
        xclient.speakers(config),
        maildir_path(config).name,
        ForwardSettings.load(config),
        smtp_proxy.read_settings(config),
        lmtp.read_stores(config),
        quarantine.path(config),
        LimitSettings.load(config, 30.0),
        read_aliases(config),
        AuthProxySettings.load(config),
        read_bridge(config),
        config.lines("data.signatures"),
        toobusy.max_lag(config),
        lookup_rdns.time_limit(config),
        UsersFile.load(config),
        tarpit.chosen_hooks(config),
        delay_deny.read_entries(config),
        whole_number(config, max_unrecognized.FILE, max_unrecognized.DEFAULT),
        whole_number(config, max_count.FILE, max_count.DEFAULT),
        block_me.Addresses.load(config),
        plugin_timeout(config, "tls"),
        queue_directory(config).name,
    )


class SampleTests(SynchronousTestCase):
    def test_every_file_has_one(self) -> None:
        """Each file that is read has a sample that explains it."""
        config = write_config(self)
        read_all(config)
        config.lines("plugins")
        asked = {path.name for path in config.missing}
        optional = {name for name in asked if name.endswith((".pem", ".timeout"))}
        older = {name for name in asked if name.startswith("outbound.")} - {
            "outbound.ini",
            "outbound.bounce_message",
            "outbound.bounce_message_html",
            "outbound.bounce_message_image",
        }
        self.assertEqual(NAMES, (asked - optional - older) | {"host_list.anti_spoof"})
        for name in NAMES:
            self.assertTrue(sample(name).startswith(f"# {name}: "), name)
            self.assertLessEqual(max(map(len, sample(name).splitlines())), 88, name)

    def test_nothing_to_warn_of(self) -> None:
        """A newcomer's first start shows no warning."""
        config = write_config(self, {name: sample(name) for name in NAMES})
        read_all(config)
        self.assertEqual(config.warnings, ())

    def test_samples_are_the_defaults(self) -> None:
        """
        An instance with the samples behaves as one without any, but for the curves of TLS.
        """
        given = write_config(self, {name: sample(name) for name in NAMES})
        bare = write_config(self, {"tls.ini": "ecdhCurve=auto"})
        self.assertEqual(read_all(given), read_all(bare))

    def test_comments_tell_the_defaults(self) -> None:
        """A setting whose ';' is taken away is as it was before, as the comments promise."""
        commented = write_config(self, {name: sample(name) for name in NAMES})
        uncommented = write_config(
            self,
            {name: DEFAULT.sub("", sample(name)) for name in NAMES_OF_INIS},
        )
        changed = [name for name in NAMES if DEFAULT.search(sample(name))]
        self.assertEqual(
            sorted(changed),
            sorted(NAMES_OF_INIS - {"redis.ini", "relay_dest_domains.ini"}),
        )
        before, after = read_all(commented), read_all(uncommented)
        self.assertIsInstance(before[0], InboundSettings)
        assert isinstance(before[0], InboundSettings)
        self.assertEqual(before[0].listeners, (ListenerSettings("::", 25),))
        self.assertEqual(after, (evolve(before[0], listens_by_default=False), *before[1:]))
        self.assertEqual(uncommented.warnings, ())

    def test_examples_can_be_used(self) -> None:
        """An example that is copied out of a comment is understood, every one of them."""
        for name in sorted(NAMES):
            text = EXAMPLE.sub("", sample(name))
            if name == "smtp.ini":  # two examples of the same setting
                text = text.replace("listen=127.0.0.1:2525\n", "")
            if text != sample(name):
                config = write_config(self, {name: text})
                with_example = read_all(config)
                self.assertEqual(config.warnings, (), name)
                if name != "queue_dir":  # its example is the default
                    without = read_all(write_config(self, {name: sample(name)}))
                    self.assertNotEqual(with_example, without, name)

    def test_lists_name_nothing(self) -> None:
        """No host may relay, and no domain is taken in, until the operator says so."""
        config = write_config(self, {name: sample(name) for name in NAMES})
        for name in ("host_list", "host_list_regex", "relay_acl_allow", "xclient.hosts", "me"):
            self.assertEqual(config.lines(name), (), name)

    def test_plugins(self) -> None:
        """STARTTLS is on, nothing is thrown away."""
        config = write_config(self, {"plugins": sample("plugins")})
        self.assertEqual(
            config.lines("plugins"), ("tls", "relay", "rcpt_to.in_host_list", "queue/maildir")
        )

    def test_they_are_those_of_the_checkout(self) -> None:
        """What `harakatls init` writes is what stands in config/."""
        checkout = Path(__file__).parents[2] / "config"
        if not checkout.is_dir():
            self.skipTest("not run from a checkout")
        self.assertEqual(NAMES, frozenset(file.name for file in checkout.iterdir()))
