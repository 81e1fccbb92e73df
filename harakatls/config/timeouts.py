"""How long a plugin may take."""

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.config.section import Section

DEFAULT = 30.0

# Those whose task it is to take long; for them the file plugin_timeout does not count.
_LONG = {"tarpit": 0.0}


def plugin_timeout(config: ConfigDirectory, name: str) -> float:
    """
    How long the plugin *name* may take at one hook, in seconds; 0 is without limit.

    From C{<name>.timeout}, else C{plugin_timeout}, else 30; but 0 where that would defeat it.

    @param name: as in C{config/plugins}, such as C{queue/maildir}.
    @raise ConfigError: where the file does not hold a number of seconds.
    """
    files = (f"{name}.timeout",) if name in _LONG else (f"{name}.timeout", "plugin_timeout")
    for file in files:
        value = config.value(file)
        if value is not None:
            try:
                return Section(file, "main", {"timeout": value}).seconds("timeout", DEFAULT)
            except ConfigError as error:
                raise ConfigError(file, None, None, error.problem) from None
    return _LONG.get(name, DEFAULT)
