"""Where Redis is: redis.ini, overlaid by what [redis] of another file says about the server."""

from attrs import field, frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.section import HIGHEST_PORT, Section

FILE = "redis.ini"

_HIGHEST_DATABASE = 1_000_000
_NAMES_OF_HOST = ("host", "ip")
_NAMES_OF_DATABASE = ("db", "database", "dbid")
_NO_CREDIT = "only the memory of failed TLS and the plugin limit use Redis"


@frozen
class RedisSettings:
    """@ivar password: None for a server that asks for none."""

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"{where}:{self.port}/{self.database}"


def read_redis(config: ConfigDirectory, overlay: Section) -> RedisSettings | None:
    """
    *overlay* wins over [opts] of redis.ini, and that over [server].

    @param overlay: the section C{redis} of the file of whoever wants one.

    @return: None where neither file says anything about a Redis server.
    @raise ConfigError: a value cannot be used.
    """
    ini = config.ini(FILE)
    given = [_read(section) for section in (ini.section("server"), ini.section("opts"), overlay)]
    for name in ini.sections():
        if name not in ("server", "opts"):
            unused = ini.section(name)
            if unused.names():
                unused.warn(None, f"this section has no effect; {_NO_CREDIT}")
    found = {key: value for options in given for key, value in options.items()}
    return RedisSettings(**found) if found else None  # type: ignore[arg-type]


def _read(section: Section) -> dict[str, str | int]:
    """What one section says, by the names of L{RedisSettings}; all of it is looked at."""
    found: dict[str, str | int] = {}
    _tell_of_synonyms(section, _NAMES_OF_HOST)
    _tell_of_synonyms(section, _NAMES_OF_DATABASE)
    for key in reversed(_NAMES_OF_HOST):
        host = section.text(key)
        if host is not None:
            host = host.rstrip("; \t")
            if not host or not host.isprintable() or any(c.isspace() for c in host):
                raise section.error(key, "is not the name or address of a host")
            found["host"] = host.strip("[]")
    port = section.integer("port", None, 1, HIGHEST_PORT)
    if port is not None:
        found["port"] = port
    for key in reversed(_NAMES_OF_DATABASE):
        database = section.integer(key, None, 0, _HIGHEST_DATABASE)
        if database is not None:
            found["database"] = database
    password = section.text("password")
    if password:
        found["password"] = password
    return found


def _tell_of_synonyms(section: Section, keys: tuple[str, ...]) -> None:
    """Where two say different things, the first counts."""
    given = [key for key in keys if key in section]
    for key in given[1:]:
        if section.text(key) != section.text(given[0]):
            section.warn(key, f"has no effect, since {given[0]} is there as well: {given[0]} wins")
