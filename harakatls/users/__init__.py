"""Users of this server, and what is kept of their passwords."""
