"""SMTP without I/O: bytes in, events out."""
