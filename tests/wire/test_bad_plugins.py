"""A running server with a plugin that breaks every rule, and the mail of others meanwhile."""

import smtplib

from twisted.trial.unittest import SynchronousTestCase

from tests.support import DEFAULT_PLUGINS, Instance

BAD = """
import sys, time
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer
from harakatls.interfaces import IMailHook
from harakatls.plugins.factory import PluginFactory
from harakatls.verdict import CONTINUE

@implementer(IMailHook)
class Bad:
    async def mail(self, connection, transaction):
        what = transaction.envelope.reverse_path.local_part
        if what == "raises":
            raise KeyError("raised on purpose")
        if what == "exits":
            sys.exit(3)
        if what == "interrupts":
            raise KeyboardInterrupt
        if what == "hangs":
            await Deferred()
        if what == "blocks":
            time.sleep(1.1)
        if what == "answers":
            return "250 fine"
        if what == "changes":
            connection.relaying = True
        if what == "leaves":
            fail(OSError("left on purpose"))
        return CONTINUE

bad = PluginFactory("bad", lambda site: Bad())
"""
SAID = {
    "raises": 450,
    "exits": 450,
    "interrupts": 450,
    "hangs": 450,
    "blocks": 250,
    "answers": 450,
    "changes": 450,
    "leaves": 250,
}


class BadPluginTests(SynchronousTestCase):
    def test_server_goes_on(self) -> None:
        """Each is answered, none ends connection or server, and the log names the plugin."""
        files = {"plugins": f"bad\n{DEFAULT_PLUGINS}", "bad.timeout": "0.5\n"}
        instance = Instance.make(files=files)
        self.addCleanup(instance.remove)
        (instance.directory / "plugins/bad.py").write_text(BAD)
        instance.start()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.ehlo("client.test")
            for what, code in SAID.items():
                self.assertEqual(client.mail(f"{what}@example.org")[0], code, what)
                client.rset()
            client.sendmail("you@example.org", ["me@mx.test"], "Subject: well\r\n\r\nHi\r\n")
        instance.wait_for_mail("well")
        instance.stop()
        log = instance.log()
        for words in (
            "plugin bad raised an exception at mail",
            "KeyError: 'raised on purpose'",
            "plugin bad took longer than 0.5 seconds at mail",
            "plugin bad blocked the server for 1.",
            "plugin bad answered '250 fine' at mail",
            "FrozenInstanceError",
            "left on purpose",
        ):
            self.assertIn(words, log)
