"""Environment of a process that will import TensorFlow; call it before anything does."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Chooses Keras 2, which tensorflow-recommenders and TFMA need, and quietens TensorFlow."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
