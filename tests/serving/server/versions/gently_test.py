"""Work in a thread of low priority."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from serving.server.versions.gently import run_gently


def test_only_the_thread_of_the_work_steps_back() -> None:
    found: list[tuple[int, int]] = []

    def work() -> None:
        thread = threading.get_native_id()
        found.append((thread, os.getpriority(os.PRIO_PROCESS, thread)))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    run_gently(work)

    ((thread, priority),) = found
    assert thread != threading.get_native_id()
    if sys.platform == "linux":
        assert priority == min(before + 5, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_an_error_reaches_the_caller() -> None:
    def work() -> None:
        raise ValueError("of the work")

    with pytest.raises(ValueError, match="of the work"):
        run_gently(work)
