"""Errors of a training on several workers."""

from __future__ import annotations


class WorkerError(RuntimeError):
    """A worker that died, failed or never joined; the message names it."""
