"""From the names in config/plugins to plugins that are loaded and known to fit."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from twisted.logger import Logger
from twisted.plugin import getPlugins
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError, shown
from harakatls.config.timeouts import plugin_timeout
from harakatls.hooks.chain import STAGES, LoadedPlugin
from harakatls.interfaces import IAskedLast, IPluginFactory, Site

log = Logger()

FILE = "plugins"
PREFIX = "haraka-plugin-"  # Haraka's packages may be listed with it or without
OWN_PACKAGE = "harakatls_own_plugins"


def load_plugins(
    site: Site, names: Sequence[str], factories: Iterable[IPluginFactory]
) -> tuple[LoadedPlugin, ...]:
    """
    Load what config/plugins lists, in its order; what a plugin wants asked last comes behind all.

    @raise ConfigError: a name is not known, or a plugin cannot be used; it names the plugin.
    """
    known = {factory.name: factory for factory in factories}
    plugins: dict[str, LoadedPlugin] = {}
    asked_last: list[LoadedPlugin] = []
    for listed in names:
        name = listed if listed in known else listed.removeprefix(PREFIX)
        if name not in known:
            raise _unknown(name, known)
        if name in plugins:
            log.warn("config/plugins lists {plugin} twice; it is asked once", plugin=name)
            continue
        plugin = _load(known[name], name, site)
        timeout = plugin_timeout(site.config, name)
        plugins[name] = LoadedPlugin(name, plugin, timeout)
        last = IAskedLast(plugin, None)
        if last is not None and last.asked_last is not None:
            _check(name, last.asked_last)
            asked_last.append(LoadedPlugin(name, last.asked_last, timeout))
    return (*plugins.values(), *asked_last)


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    # rcpt_to.in_host_list for in_host_list, queue/discard for discard
    near += [k for k in known if k not in near and name and (name in k or k in name)]
    choice = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
    return ConfigError(FILE, None, None, f"there is no plugin {shown(name)}; {choice}")


def _load(factory: IPluginFactory, name: str, site: Site) -> object:
    try:
        plugin = factory.load(site)
    except ConfigError:
        raise
    except Exception as problem:
        log.failure("plugin {plugin} cannot be loaded", plugin=name)
        raise _unusable(name, f"cannot be loaded: {_told(problem)}") from problem
    _check(name, plugin)
    return plugin


def _check(name: str, plugin: object) -> None:
    """@raise ConfigError: no hook, or a hook that could not be asked."""
    provided = [(stage, hook) for stage, hook in STAGES if hook.providedBy(plugin)]
    if not provided:
        raise _unusable(name, f"{plugin!r} provides no hook interface (@implementer is missing?)")
    for interface in dict.fromkeys(hook for _, hook in provided):
        try:
            verifyObject(interface, plugin)
        except Invalid as problem:
            raise _unusable(name, _on_one_line(problem)) from None
    for stage, interface in provided:
        if not inspect.iscoroutinefunction(getattr(plugin, stage)):
            wanted = f"{stage} of {interface.__name__} must be a coroutine: async def {stage}"
            raise _unusable(name, wanted)
    _check_for_undeclared(name, plugin)


def _check_for_undeclared(name: str, plugin: object) -> None:
    """A hook without its declaration would never be asked, and nobody would know why."""
    for stage, interface in STAGES:
        if not interface.providedBy(plugin) and inspect.iscoroutinefunction(
            getattr(plugin, stage, None)
        ):
            log.warn(
                "plugin {plugin} has a coroutine {stage} but does not declare {interface}: "
                "it is never asked",
                plugin=name,
                stage=stage,
                interface=interface.__name__,
            )


def _unusable(name: str, problem: str) -> ConfigError:
    return ConfigError(FILE, None, None, f"plugin {name}: {problem}")


def _told(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def _on_one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())


# -- finding -----------------------------------------------------------------------------------


def plugin_factories(extra: Path | None = None) -> tuple[IPluginFactory, ...]:
    """
    All plugins that can be listed: those installed, and those in the operator's own directory.

    The operator's own ones win over installed ones of the same name. They are read anew each time.

    @param extra: the operator's directory; need not exist.
    @raise ConfigError: a file in it cannot be used.
    """
    found: dict[str, IPluginFactory] = {}
    for factory in getPlugins(IPluginFactory):
        if factory.name in found:
            log.warn("two installed plugins are called {plugin}", plugin=factory.name)
        found.setdefault(factory.name, factory)
    for factory in _own_factories(extra) if extra is not None else ():
        if factory.name in found:
            log.info(
                "plugin {plugin} of {directory} takes the place of the installed one",
                plugin=factory.name,
                directory=str(extra),
            )
        found[factory.name] = factory
    return tuple(found.values())


def _own_factories(directory: Path) -> Iterator[IPluginFactory]:
    """
    The files form a package of their own, so that no file name can collide with another package.
    """
    if not directory.is_dir():
        return
    package = ModuleType(OWN_PACKAGE, "The operator's own plugins.")
    package.__path__ = [str(directory)]
    package.__file__ = str(directory / "__init__.py")
    for name in [n for n in sys.modules if n.split(".")[0] == OWN_PACKAGE]:
        del sys.modules[name]
    sys.modules[OWN_PACKAGE] = package
    importlib.invalidate_caches()
    for name, file in _plugin_files(directory):
        # twisted.plugin would log this and go on without the plugin.
        try:
            importlib.import_module(f"{OWN_PACKAGE}.{name}")
        except Exception as problem:
            log.failure("{file} cannot be imported", file=str(file))
            raise ConfigError(str(file), None, None, _where(file, problem)) from problem
    # It goes by modification times: what was put back from a backup would not be seen.
    _remove(directory / "dropin.cache")
    names: set[str] = set()
    for factory in getPlugins(IPluginFactory, package):
        try:
            verifyObject(IPluginFactory, factory)
        except Invalid as problem:
            raise ConfigError(str(directory), None, None, _on_one_line(problem)) from None
        if factory.name in names:
            twice = f"more than one plugin in it is called {shown(factory.name)}"
            raise ConfigError(str(directory), None, None, twice)
        names.add(factory.name)
        yield factory


def _plugin_files(directory: Path) -> Iterator[tuple[str, Path]]:
    try:
        files = sorted(directory.iterdir())
    except OSError as problem:
        raise ConfigError(
            str(directory), None, None, f"cannot be read: {problem.strerror}"
        ) from None
    for file in files:
        if file.name.startswith((".", "__")):
            continue
        if (file / "__init__.py").is_file():
            yield file.name, file
        elif file.suffix == ".py":
            if not file.stem.isidentifier():
                wanted = "the name of a plugin file is made of letters, digits and underscores"
                raise ConfigError(str(file), None, None, wanted)
            yield file.stem, file


def _where(file: Path, problem: Exception) -> str:
    line = None
    traceback = problem.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(file):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    # A SyntaxError names its line itself.
    return f"cannot be imported: {_told(problem)}" + (f" (line {line})" if line else "")


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        pass  # a directory we may only read has no cache of ours either
