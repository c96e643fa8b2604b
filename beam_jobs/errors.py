"""Errors of the examples job."""

from __future__ import annotations

import re


class InputError(ValueError):
    """Raw data, a side file or a snapshot that cannot be used; the message says why.

    The message is one line, so that it can be found again in the text of a runner's own error.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def root_cause(error: BaseException) -> BaseException:
    """Finds our own error, or that of a full disk, under what the runner made of it.

    A runner passes on what a worker raised as text at best, with the step at the end.
    """
    cause: BaseException | None = error
    while cause is not None:
        text = f"{type(cause).__name__}: {cause}"
        ours = re.search(r"InputError: (.*?)(?: \[while running [^\n]*)?(?:\n|$)", text)
        if ours:
            return InputError(ours[1])
        system = re.search(r"OSError: \[Errno (\d+)\] ([^\n]*?): '([^'\n]*)'", text)
        if system:
            return OSError(int(system[1]), system[2], system[3])
        cause = cause.__cause__ or cause.__context__
    return error
