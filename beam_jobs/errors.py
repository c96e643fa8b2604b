"""Errors of the examples job."""

from __future__ import annotations


class InputError(ValueError):
    """Raw data, a side file or a snapshot that cannot be used; the message says why."""
