"""From the names in config/plugins to plugins that are loaded and known to fit."""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from twisted.logger import Logger
from twisted.plugin import getPlugins
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

import twisted.plugins
from harakatls.config.errors import ConfigError, shown
from harakatls.config.timeouts import plugin_timeout
from harakatls.hooks.stages import STAGES, LoadedPlugin
from harakatls.interfaces import IAskedLast, IPluginFactory, Site

log = Logger()

FILE = "plugins"
PREFIX = "haraka-plugin-"  # Haraka's packages may be listed with it or without


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
    except (Exception, SystemExit) as problem:
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


def _told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {_on_one_line(problem)}"


def _on_one_line(problem: BaseException) -> str:
    return " ".join(str(problem).split())


# -- finding -----------------------------------------------------------------------------------


def plugin_factories(extra: Path | None = None) -> tuple[IPluginFactory, ...]:
    """
    All plugins that can be listed: those installed, and those in the operator's own directory.

    twisted.plugin finds both. The operator's own win over installed ones of the same name, and
    are read anew each time.

    @param extra: the operator's directory; need not exist.
    @raise ConfigError: a file in it cannot be used.
    """
    modules = _own_modules(extra)
    own_objects = {id(value) for module in modules for value in vars(module).values()}
    installed: dict[str, IPluginFactory] = {}
    own: dict[str, IPluginFactory] = {}
    for factory in getPlugins(IPluginFactory):
        if id(factory) in own_objects:
            _check_factory(factory, extra)
            if factory.name in own:
                twice = f"more than one plugin in it is called {shown(factory.name)}"
                raise ConfigError(str(extra), None, None, twice)
            own[factory.name] = factory
        elif factory.name in installed:
            log.warn("two installed plugins are called {plugin}", plugin=factory.name)
        else:
            installed[factory.name] = factory
    for name in own.keys() & installed.keys():
        log.info("{plugin} is taken from {directory}", plugin=name, directory=str(extra))
    return tuple({**installed, **own}.values())


def _check_factory(factory: IPluginFactory, directory: Path | None) -> None:
    try:
        verifyObject(IPluginFactory, factory)
    except Invalid as problem:
        raise ConfigError(str(directory), None, None, _on_one_line(problem)) from None


def _own_modules(directory: Path | None) -> list[ModuleType]:
    """
    Import the operator's files, so that twisted.plugin will find them: it would log one that is
    broken, and go on without it.
    """
    for name in [name for name, module in sys.modules.items() if _is_own(name, module)]:
        del sys.modules[name]
    twisted.plugins.__path__[:] = [p for p in twisted.plugins.__path__ if p not in _own_paths]
    _own_paths.clear()
    if directory is None or not directory.is_dir():
        return []
    path = str(directory.absolute())
    _own_paths.append(path)
    twisted.plugins.__path__.append(path)
    # It goes by modification times: a file put back from a backup would not be seen.
    _remove(directory / "dropin.cache")
    importlib.invalidate_caches()
    return [_imported(name, file) for name, file in _plugin_files(directory.absolute())]


_own_paths: list[str] = []  # what we have added to the path of twisted.plugins


def _is_own(name: str, module: ModuleType) -> bool:
    file = getattr(module, "__file__", None) or ""
    return name.startswith("twisted.plugins.") and file.startswith(
        tuple(path + os.sep for path in _own_paths)
    )


def _imported(name: str, file: Path) -> ModuleType:
    try:
        module = importlib.import_module(f"twisted.plugins.{name}")
    except (Exception, SystemExit) as problem:  # a script in the wrong place ends itself
        log.failure("{file} cannot be imported", file=str(file))
        raise ConfigError(str(file), None, None, _where(file, problem)) from problem
    if not _is_own(module.__name__, module):
        taken = f"there is an installed plugin file of that name, {module.__file__}; rename it"
        raise ConfigError(str(file), None, None, taken)
    return module


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


def _where(file: Path, problem: BaseException) -> str:
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
