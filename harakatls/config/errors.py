"""What is wrong with the configuration, and where."""

MAIN = "main"
"""The section of the keys that stand before the first header."""

SHOWN = 60
"""How many characters of a wrong value an error repeats."""


def shown(text: str) -> str:
    """A value as errors show it: quoted, nothing in it that could upset a terminal, cut if long."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def place(file: str, section: str | None = None, key: str | None = None) -> str:
    """
    Where something stands, for errors and warnings: C{tls.ini [redis] disable_expiry}.

    The main section is never named, since its keys mostly stand without a header.
    """
    words = [file]
    if section is not None and section != MAIN:
        words.append(f"[{section}]")
    if key is not None:
        words.append(key)
    return " ".join(words)


class ConfigError(Exception):
    """
    The operator's files cannot be used as they are.

    Its text is one line for the operator: where, what was found, what was expected::

        tls.ini [redis] disable_expiry: 'a week' is not a number of seconds

    @ivar file: the file, by the name under which it was asked for.
    @ivar section: the section of an ini file, or None.
    @ivar key: the key, or None.
    @ivar problem: what was found and what was expected.
    """

    def __init__(self, file: str, section: str | None, key: str | None, problem: str) -> None:
        super().__init__(file, section, key, problem)
        self.file = file
        self.section = section
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"{place(self.file, self.section, self.key)}: {self.problem}"
