"""How a plugin is announced to twisted.plugin: a name, and where to find what makes it."""

from collections.abc import Callable
from importlib import import_module

from attrs import frozen
from zope.interface import implementer

from harakatls.interfaces import IPluginFactory, Site


@implementer(IPluginFactory)
@frozen
class PluginFactory:
    """
    Announces one plugin; for `twisted/plugins` and for the operator's own plugin files.

    Every file of announcements is imported whenever plugins are looked for, ``twistd --help``
    included. One that only names its module, as the shipped ones do, costs nothing until used.

    @ivar name: as written in config/plugins.
    @ivar maker: called with the `Site`, gives the plugin object: a function or class, or its name
        as "package.module:function".
    """

    name: str
    maker: str | Callable[[Site], object]

    def load(self, site: Site) -> object:
        """@raise ConfigError: the plugin's configuration is wrong."""
        if not isinstance(self.maker, str):
            return self.maker(site)
        module, _, function = self.maker.partition(":")
        return getattr(import_module(module), function)(site)
