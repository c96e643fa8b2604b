"""Imports of the frameworks, which bring in thousands of modules, in less time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keeps the garbage collector from looking through what is imported in the block.

    Modules live as long as the process. Looking through their million objects again and again
    takes a quarter of the time of importing TFX, and would go on to slow every full collection.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
