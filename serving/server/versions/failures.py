"""Why a version could not be loaded, or a call of its model failed."""

from __future__ import annotations

import tensorflow as tf

from serving.server.errors import Code

# How lines of TensorFlow's messages begin that tell of the graph.
_NO_REASON = ("Graph execution error", "Detected at node", "<stack traces", "Node: ", "\t [[")


class LoadError(Exception):
    """A SavedModel that cannot be loaded.

    Attributes:
        code: status code of the reason.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code


def code_of(error: tf.errors.OpError) -> Code:
    """Returns the status code of an error of TensorFlow."""
    try:
        return Code(error.error_code)
    except ValueError:
        return Code.UNKNOWN


def reason_of(text: str) -> str:
    """Returns what went wrong, without where in the graph it did."""
    for line in text.splitlines():
        if line.strip() and not line.startswith(_NO_REASON):
            return line.strip()
    return text.strip()
