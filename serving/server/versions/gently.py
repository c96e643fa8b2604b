"""Work that must not slow down the calls that are served beside it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures

# Of the 20 steps that a thread may be put back by: a quarter of a fair share where nothing is idle.
# With half as much a new version hardly comes up beside a busy process.
_NICENESS = 5


def run_gently(work: Callable[[], None]) -> None:
    """Runs ``work`` in a thread of low priority, and waits for it.

    TensorFlow prepares a graph in the thread that first runs it, seconds of computing in which it
    does not hold Python's lock. On two cores a swap would otherwise show in every call's latency.
    """
    with futures.ThreadPoolExecutor(1, "gently", initializer=_step_back) as pool:
        pool.submit(work).result()


def _step_back() -> None:
    # Elsewhere a number of a thread may be that of another process.
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, niceness + _NICENESS)
