"""TLS: from settings to policy, contexts and handshakes."""
