"""Reading the config directory."""
