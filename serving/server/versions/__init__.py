"""Versions of models: found, loaded, warmed, run and let go."""
