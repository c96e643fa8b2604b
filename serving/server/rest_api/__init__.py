"""The HTTP port and its JSON."""
