"""A peer gives us mail."""
