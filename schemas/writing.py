"""Writes small text files so that a reader never sees half of one, and can read all of it."""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes a text under a temporary name in the same folder, made if need be, and renames it.

    Args:
        path: file to write; what is there is replaced.
        text: its content, written as UTF-8.

    Raises:
        OSError: it cannot be written; what was there is as before.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as :func:`write_text` does a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with naming(path):
            temporary.write_bytes(content)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names a file in the error of a write that failed, of a full disk for one, which does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def undefined_as_none(value: Any) -> Any:
    """Returns nested plain values with None for the numbers that JSON has no word for.

    Those are NaN, such as a GAUC where no user has both classes, and infinity.
    """
    if isinstance(value, dict):
        return {key: undefined_as_none(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [undefined_as_none(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
