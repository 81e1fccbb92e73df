"""The files that docs/plugins.rst prints."""

import re

from tests.support import REPOSITORY

_BLOCK = re.compile(r"^\.\. code-block:: \w+\n   :name: (\S+)\n((?:\n|   .*\n)+)", re.MULTILINE)


def printed() -> dict[str, str]:
    """Their texts, word for word, by name."""
    text = (REPOSITORY / "docs/plugins.rst").read_text("utf-8")
    return {
        name: "".join(line[3:] or "\n" for line in block.splitlines(keepends=True))
        for name, block in _BLOCK.findall(text)
    }
