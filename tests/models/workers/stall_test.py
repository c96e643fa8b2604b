"""Tests of noticing a training that does not get on, on a clock of their own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from models.workers.cluster import Cluster
from models.workers.stall import Pulse, StallWatch

CLUSTER = Cluster(addresses=("a:1", "b:2"), index=0)
LIMIT = 120.0
SINCE = "the training has not got on for 2 min (train.stall_minutes)"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Training:
    """Two workers that say something every second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.watch = StallWatch(CLUSTER, LIMIT, self.clock)
        self._beats = 0

    def run(
        self, seconds: int, begun: Mapping[int, int], *, doing: str = "step 7 of epoch 1",
        stopped: int | None = None,
    ) -> str | None:  # fmt: skip
        """Lets time pass in which no worker begins anything; returns the fault at its end."""
        fault = None
        for _ in range(seconds):
            self.clock.now += 1
            self._beats += 1
            pulses = {
                index: Pulse(beats=1 if index == stopped else self._beats, begun=count, doing=doing)
                for index, count in begun.items()
            }
            fault = self.watch.fault(pulses)
        return fault


def test_a_training_that_gets_on_has_no_fault() -> None:
    training = Training()
    for count in range(5):
        # As long as the first step, a validation or a checkpoint may take.
        assert training.run(115, {0: count, 1: count}) is None


def test_the_worker_that_the_others_wait_for_is_named() -> None:
    training = Training()
    assert training.run(10, {0: 8, 1: 8}) is None
    assert training.run(120, {0: 9, 1: 8}) is None
    assert training.run(1, {0: 9, 1: 8}) == (
        f"worker 1 (b:2), at step 7 of epoch 1, is waited for by the others: {SINCE}"
    )


@pytest.mark.parametrize("begun", [8, 9])
def test_a_process_that_does_not_run_is_named_wherever_it_stands(begun: int) -> None:
    training = Training()
    fault = training.run(122, {0: begun, 1: 9}, stopped=1)
    assert fault is not None
    assert fault.startswith(
        "worker 1 (b:2), at step 7 of epoch 1, does not run, stopped or held up"
    )


def test_workers_that_wait_for_each_other_are_all_named() -> None:
    fault = Training().run(122, {0: 9, 1: 9})
    assert fault == (
        "worker 0 (a:1, the chief), at step 7 of epoch 1, and worker 1 (b:2), at step 7 of epoch "
        f"1, wait for each other: {SINCE}"
    )


def test_time_in_which_the_watch_itself_stood_still_does_not_count() -> None:
    training = Training()
    training.run(10, {0: 9, 1: 9})
    training.clock.now += 3600
    assert training.run(100, {0: 9, 1: 9}) is None
    assert training.run(20, {0: 9, 1: 9}) is not None


def test_a_worker_that_has_finished_is_waited_for_by_nobody() -> None:
    training = Training()
    assert training.run(10, {0: 9, 1: 9}) is None
    fault = training.run(122, {1: 9})
    assert fault is not None
    assert "worker 0" not in fault
