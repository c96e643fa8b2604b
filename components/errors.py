"""Errors by which the command line tells a refusal from a fault."""

from __future__ import annotations


class DataRefused(Exception):
    """The data does not keep its contract; the message lists every reason."""


class PushFailed(RuntimeError):
    """A blessed model could not be written; the versions already there are untouched."""
