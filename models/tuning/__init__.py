"""Search over keys of the configuration."""
