"""Numbers that stand alone in a file, as Haraka has them."""

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError
from harakatls.config.section import Section


def whole_number(config: ConfigDirectory, file: str, default: int) -> int:
    """
    The number in *file*, from 1 on.

    @raise ConfigError: it holds something else.
    """
    value = config.value(file)
    if value is None:
        return default
    try:
        return Section(file, "main", {"number": value}).integer("number", default, minimum=1)
    except ConfigError as error:
        raise ConfigError(file, None, None, error.problem) from None
