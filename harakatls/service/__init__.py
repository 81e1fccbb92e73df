"""Wiring: options, listeners, start and stop."""
