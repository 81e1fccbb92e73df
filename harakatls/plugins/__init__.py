"""The plugins that come with harakatls."""
