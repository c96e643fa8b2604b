"""Environment of a process that will import TensorFlow; call it before anything does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


def prepare_environment() -> None:
    """Chooses Keras 2, which tensorflow-recommenders and TFMA need, and quietens TensorFlow."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Drops what TensorFlow's C++ code writes while it is imported, before it knows its level.

    For commands whose own few lines stand at the terminal; errors of Python come through.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    real = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(real, 2)
        os.close(sink)
        os.close(real)
