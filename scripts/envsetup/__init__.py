"""Builds the virtual environment of a checkout; standard library only."""
