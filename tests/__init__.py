"""Tests."""

from hypothesis import settings

# How long an example takes tells of the machine, and of what else it does just now.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
