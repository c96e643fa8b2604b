"""Errors of a training on several workers, and the words of those that others raise."""

from __future__ import annotations

# How lines of TensorFlow's messages begin that tell of the graph, or of the program that made it.
_NO_REASON = ("Graph execution error", "Detected at node", "<stack traces", "Node: ", " ", "\t")


class WorkerError(RuntimeError):
    """A worker that died, failed, never joined or is stuck; the message names it."""


def first_words(text: str) -> str:
    """Returns the line of an error's text that says what went wrong."""
    lines = [line for line in text.splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(_NO_REASON)]
    return (reasons or lines or [""])[0].strip()
