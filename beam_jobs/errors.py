"""Errors of the examples job."""

from __future__ import annotations


class InputError(ValueError):
    """Raw data, a side file or a snapshot that cannot be used; the message says why.

    The message is one line, so that it can be found again in the text of a runner's own error.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
