"""Tests of docs/configuration.rst against the samples, which other tests hold to the code."""

import re
from importlib.resources import files
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

MANUAL = Path(__file__).parents[2] / "docs" / "configuration.rst"
SAMPLES = [entry for entry in files("harakatls.samples").iterdir() if entry.is_file()]
KEY = re.compile(r"^(?:;|#   )?([A-Za-z_]\w*)(?:\[\])?=", re.MULTILINE)
SECTION = re.compile(r"^\[(\w+)\]", re.MULTILINE)
DOMAINS = frozenset({"any"})  # the keys of relay_dest_domains.ini are domains


class ManualTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.words = set(re.findall(r"[\w.]+", MANUAL.read_text("utf-8")))

    def test_files(self) -> None:
        """An operator finds every file in the manual."""
        self.assertEqual([s.name for s in SAMPLES if s.name not in self.words], [])

    def test_options(self) -> None:
        """An operator finds every option and section in the manual."""
        for sample in SAMPLES:
            text = sample.read_text("utf-8") if sample.name.endswith(".ini") else ""
            known = {*KEY.findall(text), *SECTION.findall(text)} - DOMAINS
            self.assertEqual(known - self.words, set(), sample.name)
