"""Optimisers that touch only the rows of a table that a batch reads."""
