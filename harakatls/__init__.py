"""A mail server with the best TLS there is."""
