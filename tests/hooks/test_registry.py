"""Plugins are found, loaded and checked; what is wrong is told by name."""

import os
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.hooks.chain import HookChain
from harakatls.hooks.registry import load_plugins, plugin_factories
from harakatls.hooks.stages import LoadedPlugin
from harakatls.interfaces import IAskedLast, IMailHook, IPluginFactory, IRcptHook, Site
from harakatls.verdict import CONTINUE, Verdict

OWN_PLUGIN = """
from zope.interface import implementer

from harakatls.interfaces import IRcptHook
from harakatls.plugins.factory import PluginFactory
from harakatls.verdict import Reject


@implementer(IRcptHook)
class Nobody:
    async def rcpt(self, connection, transaction, recipient):
        return Reject()


nobody = PluginFactory({name!r}, lambda site: Nobody())
"""


@implementer(IPluginFactory, IPlugin)
@frozen
class Factory:
    """Gives what it is made with, or raises it."""

    name: str
    plugin: Any

    def load(self, site: Site) -> object:
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


@implementer(IRcptHook)
class Good:
    async def rcpt(self, connection: Any, transaction: Any, recipient: Any) -> Verdict:
        return CONTINUE


@implementer(IRcptHook, IAskedLast)
class Twice(Good):
    def __init__(self, asked_last: object | None) -> None:
        self.asked_last = asked_last


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def load(self, names: list[str], **plugins: Any) -> tuple[LoadedPlugin, ...]:
        unused: Any = object()
        config = ConfigDirectory(self.directory)
        site = Site(config, "mx.example", Clock(), unused, unused, unused, unused)
        factories = [Factory(name.replace("__", "/"), p) for name, p in plugins.items()]
        return load_plugins(site, names, factories)

    def problem(self, names: list[str], **plugins: Any) -> str:
        return str(self.assertRaises(ConfigError, self.load, names, **plugins))

    def test_in_the_order_of_the_list(self) -> None:
        """Plugins are asked in the order in which the operator lists them."""
        plugins = {name: Good() for name in ("a", "b", "c", "d")}
        loaded = self.load(["c", "a", "b"], **plugins)
        self.assertEqual([p.name for p in loaded], ["c", "a", "b"])
        self.assertEqual([p.plugin for p in loaded], [plugins["c"], plugins["a"], plugins["b"]])

    def test_timeouts(self) -> None:
        """plugin_timeout holds for all, NAME.timeout for one."""
        (self.directory / "plugin_timeout").write_text("12\n")
        (self.directory / "queue").mkdir()
        (self.directory / "queue" / "slow.timeout").write_text("0\n")
        loaded = self.load(["a", "queue/slow"], a=Good(), queue__slow=Good())
        self.assertEqual([p.timeout for p in loaded], [12.0, 0.0])

    def test_unknown(self) -> None:
        """A misspelt plugin stops the start and is told with what may have been meant."""
        text = self.problem(["rcpt_to.in_hostlist"], **{"rcpt_to.in_host_list": Good()})
        self.assertEqual(
            text,
            "plugins: there is no plugin 'rcpt_to.in_hostlist'; did you mean rcpt_to.in_host_list?",
        )
        self.assertIn("did you mean queue/discard?", self.problem(["discard"], queue__discard=1))
        self.assertIn("known are a, b", self.problem(["xyzzy"], a=Good(), b=Good()))

    def test_names_of_packages(self) -> None:
        """A list with Haraka's package names works as it is."""
        loaded = self.load(["haraka-plugin-relay"], relay=Good())
        self.assertEqual([p.name for p in loaded], ["relay"])

    def test_listed_twice(self) -> None:
        """A plugin that is listed twice is asked once, and the operator is told."""
        with capturedLogs() as logged:
            self.assertEqual(len(self.load(["a", "a"], a=Good())), 1)
        self.assertEqual([event["plugin"] for event in logged], ["a"])

    def test_wrong_configuration(self) -> None:
        """What a plugin says about its own files reaches the operator as it is."""
        error = ConfigError("relay.ini", "relay", "acl", "'x' is not a boolean")
        self.assertEqual(
            self.problem(["a"], a=error), "relay.ini [relay] acl: 'x' is not a boolean"
        )

    def test_load_that_raises(self) -> None:
        """Any other mistake in a plugin is told with its name."""
        text = self.problem(["a"], a=ZeroDivisionError("division by zero"))
        self.assertEqual(
            text, "plugins: plugin a: cannot be loaded: ZeroDivisionError: division by zero"
        )
        self.flushLoggedErrors(ZeroDivisionError)

    def test_no_hook(self) -> None:
        """An object that declares nothing would never be asked."""
        self.assertIn("plugin a: <object", self.problem(["a"], a=object()))
        self.assertIn("provides no hook", self.problem(["a"], a=object()))

    def test_missing_method(self) -> None:
        """A declared hook has to be there."""

        @implementer(IMailHook)
        class Bad:  # type: ignore[misc]
            """Declares mail and has none."""

        self.assertIn("mail(connection, transaction)", self.problem(["a"], a=Bad()))

    def test_wrong_arguments(self) -> None:
        """A hook has to take what it will be given."""

        @implementer(IRcptHook)
        class Bad:
            async def rcpt(  # type: ignore[override]
                self, connection: Any, transaction: Any
            ) -> Verdict:
                return CONTINUE

        text = self.problem(["a"], a=Bad())
        self.assertIn("plugin a: ", text)
        self.assertIn("IRcptHook.rcpt(connection, transaction, recipient)", text)
        self.assertNotIn("\n", text)

    def test_not_a_coroutine(self) -> None:
        """A hook without async is told so at the start, not at the first message."""

        @implementer(IRcptHook)
        class Bad:
            def rcpt(  # type: ignore[override]
                self, connection: Any, transaction: Any, recipient: Any
            ) -> Verdict:
                return CONTINUE

        self.assertEqual(
            self.problem(["a"], a=Bad()),
            "plugins: plugin a: rcpt of IRcptHook must be a coroutine: async def rcpt",
        )

    def test_hook_without_its_declaration(self) -> None:
        """A coroutine called as a hook that is not declared is pointed out: it never runs."""

        class Forgetful(Good):
            async def mail(self, connection: Any, transaction: Any) -> Verdict:
                return CONTINUE

        with capturedLogs() as logged:
            self.load(["a"], a=Forgetful())
        self.assertEqual([(e["stage"], e["interface"]) for e in logged], [("mail", "IMailHook")])

    def test_asked_last(self) -> None:
        """What a plugin wants asked last comes behind all plugins, in the order of the list."""
        one, two = Good(), Good()
        loaded = self.load(["a", "b", "c"], a=Twice(one), b=Twice(None), c=Twice(two))
        self.assertEqual([p.name for p in loaded], ["a", "b", "c", "a", "c"])
        self.assertEqual([p.plugin for p in loaded[3:]], [one, two])
        self.assertEqual(
            HookChain(loaded, Clock()).stages(), (("rcpt", ("a", "b", "c", "a", "c")),)
        )

    def test_asked_last_is_checked_too(self) -> None:
        """It has to be a plugin like any other."""
        self.assertIn("plugin a: ", self.problem(["a"], a=Twice(object())))


class FactoriesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.addCleanup(plugin_factories)

    def write(self, file: str, text: str) -> None:
        (self.directory / file).write_text(text)

    def names(self) -> list[str]:
        return [factory.name for factory in plugin_factories(self.directory)]

    def problem(self) -> str:
        return str(self.assertRaises(ConfigError, plugin_factories, self.directory))

    def test_shipped_plugins(self) -> None:
        """The plugins of the package are there under their familiar names."""
        names = [factory.name for factory in plugin_factories()]
        for name in ("tls", "relay", "rcpt_to.in_host_list", "queue/discard", "queue/maildir"):
            self.assertIn(name, names)

    def test_no_directory(self) -> None:
        """An operator without plugins of their own needs no directory for them."""
        without = plugin_factories(self.directory / "missing")
        self.assertEqual(len(without), len(plugin_factories()))

    def test_own_plugin(self) -> None:
        """A file in the operator's directory is a plugin that can be listed and asked."""
        self.write("nobody.py", OWN_PLUGIN.format(name="nobody"))
        self.assertIn("nobody", self.names())
        unused: Any = object()
        site = Site(
            ConfigDirectory(self.directory), "mx.example", Clock(), unused, unused, unused, unused
        )
        (loaded,) = load_plugins(site, ["nobody"], plugin_factories(self.directory))
        self.assertTrue(IRcptHook.providedBy(loaded.plugin))

    def test_own_plugin_wins(self) -> None:
        """The operator's own file takes the place of the shipped plugin of that name."""
        self.write("mine.py", OWN_PLUGIN.format(name="queue/discard"))
        (found,) = [f for f in plugin_factories(self.directory) if f.name == "queue/discard"]
        self.assertEqual(type(found.load(None)).__name__, "Nobody")  # type: ignore[arg-type]

    def test_files_come_and_go(self) -> None:
        """Each start sees the files that are there, even one put back from an old backup."""
        self.write("one.py", OWN_PLUGIN.format(name="one"))
        self.assertIn("one", self.names())
        self.write("one.py", OWN_PLUGIN.format(name="other name"))
        os.utime(self.directory / "one.py", (1_000_000_000, 1_000_000_000))
        self.write("two.py", OWN_PLUGIN.format(name="two"))
        names = self.names()
        self.assertIn("two", names)
        self.assertIn("other name", names)
        self.assertNotIn("one", names)
        (self.directory / "two.py").unlink()
        self.assertNotIn("two", self.names())

    def test_same_file_name_as_an_installed_one(self) -> None:
        """A file that Python would never look at, behind another of its name, is told."""
        self.write("harakatls_plugin.py", OWN_PLUGIN.format(name="mine"))
        self.assertIn("there is an installed plugin file of that name", self.problem())

    def test_another_directory(self) -> None:
        """Plugins of one instance are not seen by another that is looked at after it."""
        self.write("one.py", OWN_PLUGIN.format(name="one"))
        self.assertIn("one", self.names())
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.write("one.py", OWN_PLUGIN.format(name="another"))
        self.assertIn("another", self.names())
        self.assertNotIn("one", self.names())

    def test_package(self) -> None:
        """A larger plugin may be a directory, and have other files beside it."""
        package = self.directory / "large"
        package.mkdir()
        (package / "__init__.py").write_text("from .parts import nobody\n")
        (package / "parts.py").write_text(OWN_PLUGIN.format(name="large"))
        self.write("_shared.py", "ANSWER = 42\n")
        self.write("uses.py", "from ._shared import ANSWER\nassert ANSWER == 42\n")
        self.assertIn("large", self.names())

    def test_broken_files(self) -> None:
        """A file that cannot be imported stops the start, by name and line."""
        for text, told in [
            ("def broken(:\n", "SyntaxError"),
            ("x = 1\nimport nowhere_to_be_found\n", "(line 2)"),
            ("x = 1\n\n1 / 0\n", "ZeroDivisionError: division by zero (line 3)"),
            ("raise ValueError('one\\ntwo')\n", "ValueError: one two (line 1)"),
            ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
        ]:
            self.write("bad.py", text)
            problem = self.problem()
            self.assertIn("bad.py: cannot be imported: ", problem)
            self.assertIn(told, problem)
            self.assertNotIn("\n", problem)
        self.assertEqual(len(self.flushLoggedErrors()), 5)

    def test_file_that_cannot_be_imported_by_its_name(self) -> None:
        """A file called like the plugin is not passed over in silence."""
        self.write("rcpt_to.mine.py", OWN_PLUGIN.format(name="rcpt_to.mine"))
        self.assertIn("rcpt_to.mine.py: the name of a plugin file", self.problem())

    def test_two_of_one_name(self) -> None:
        """Which of two would be asked is not left to chance."""
        self.write("a.py", OWN_PLUGIN.format(name="same"))
        self.write("b.py", OWN_PLUGIN.format(name="same"))
        self.assertIn("more than one plugin in it is called 'same'", self.problem())

    def test_factory_without_a_name(self) -> None:
        """A factory that lacks something is told, not stumbled over."""
        self.write(
            "bad.py",
            "from zope.interface import implementer\n"
            "from harakatls.interfaces import IPluginFactory\n"
            "@implementer(IPluginFactory)\n"
            "class Bad:\n"
            "    def load(self, site): ...\n"
            "bad = Bad()\n",
        )
        self.assertIn("name", self.problem())
