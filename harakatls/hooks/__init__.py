"""Asking plugins, in order, what they say."""
