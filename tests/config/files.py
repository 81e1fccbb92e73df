"""Builds config directories for tests."""

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.directory import ConfigDirectory


def write_config(
    test: SynchronousTestCase, files: Mapping[str, str | bytes] | None = None
) -> ConfigDirectory:
    """A fresh config directory with these files, in the test's own temporary directory."""
    path = Path(test.mktemp()) / "config"
    path.mkdir(parents=True)
    for name, content in (files or {}).items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return ConfigDirectory(path)
