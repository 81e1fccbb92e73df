"""Tests for harakatls.config.timeouts."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.timeouts import plugin_timeout
from tests.config.files import write_config


class PluginTimeoutTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Without any file a plugin has half a minute."""
        self.assertEqual(plugin_timeout(write_config(self), "tls"), 30.0)

    def test_for_all_and_for_one(self) -> None:
        """A plugin's own file, also in a folder, wins over that for all; 0 is without limit."""
        config = write_config(
            self,
            {
                "plugin_timeout": "60",
                "tarpit.timeout": "0",
                "queue/maildir.timeout": "# slow\n3.5 \n",
                "empty.timeout": "\n",
            },
        )
        self.assertEqual(plugin_timeout(config, "relay"), 60.0)
        self.assertEqual(plugin_timeout(config, "tarpit"), 0.0)
        self.assertEqual(plugin_timeout(config, "queue/maildir"), 3.5)
        self.assertEqual(plugin_timeout(config, "empty"), 60.0)

    def test_no_number(self) -> None:
        """A limit that is no number is told with its file."""
        config = write_config(self, {"tls.timeout": "soon"})
        with self.assertRaises(ConfigError) as caught:
            plugin_timeout(config, "tls")
        self.assertEqual(str(caught.exception), "tls.timeout: 'soon' is not a number of seconds")
