"""Scores the rows of a file."""
