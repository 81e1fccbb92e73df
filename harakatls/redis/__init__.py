"""A Redis server: where it is, and how it is asked."""
