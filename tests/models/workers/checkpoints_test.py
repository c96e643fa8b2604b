"""Tests of a checkpoint that several workers share, with threads of one process as workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import tensorflow as tf

from models.fitting import Progress, find_checkpoint
from models.training_checkpoints import SavedCheckpoint, UnreadableCheckpointError
from models.workers.checkpoints import GENERATORS_FILE, WorkerCheckpoints
from models.workers.errors import WorkerError

Result = TypeVar("Result")


class ThreadGroup:
    """Passes values between threads as ``WorkerGroup`` does between processes."""

    def __init__(self, index: int, count: int, shared: dict[str, Any]) -> None:
        self.index, self.count, self._shared = index, count, shared

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def from_chief(self, values: Sequence[float]) -> list[float]:
        return [float(value) for value in self._all(list(values))[0]]

    def gather(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate(self._all(values))

    def local(self, value: Any) -> tuple[Any, ...]:
        return (value,)

    def _all(self, value: Any) -> list[Any]:
        self._shared["values"][self.index] = value
        self._shared["barrier"].wait(timeout=30)
        found = list(self._shared["values"])
        self._shared["barrier"].wait(timeout=30)
        return found


def on_all(
    folder: Path, count: int, work: Callable[[WorkerCheckpoints, int], Result]
) -> list[Result]:
    """Does the same work in each of ``count`` workers."""
    shared = {"barrier": threading.Barrier(count), "values": [None] * count}

    def run(index: int) -> Result:
        group: Any = ThreadGroup(index, count, shared)
        return work(WorkerCheckpoints(str(folder), {"model": "din"}, group), index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def save(folder: Path, generators: list[list[tf.random.Generator]]) -> None:
    """Saves one checkpoint of as many workers as there are lists."""

    def work(checkpoints: WorkerCheckpoints, index: int) -> str:
        values = {"weight": tf.Variable(1.0), "generators": generators[index]}
        return checkpoints.save(values, Progress().to_plain(), where="step 1")

    names = on_all(folder, len(generators), work)
    assert names == ["checkpoint-000001"] * len(generators)


def restore(folder: Path, generators: list[list[tf.random.Generator]]) -> None:
    def work(checkpoints: WorkerCheckpoints, index: int) -> None:
        saved = checkpoints.newest()
        assert saved is not None
        values = {"weight": tf.Variable(0.0), "generators": generators[index]}
        checkpoints.restore(saved, values, partly=False)

    on_all(folder, len(generators), work)


def make(seeds: Sequence[Sequence[int]]) -> list[list[tf.random.Generator]]:
    return [[tf.random.Generator.from_seed(seed) for seed in own] for own in seeds]


def draw(generators: list[list[tf.random.Generator]]) -> list[list[float]]:
    return [[float(each.normal([])) for each in own] for own in generators]


def test_each_worker_goes_on_with_its_own_random_states(tmp_path: Path) -> None:
    generators = make([[1, 2], [3, 4]])
    draw(generators)
    save(tmp_path, generators)
    expected = draw(generators)
    assert len({number for own in expected for number in own}) == 4
    others = make([[5, 6], [7, 8]])
    restore(tmp_path, others)
    assert draw(others) == expected


def test_other_workers_than_before_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generators = make([[1], [2], [3]])
    save(tmp_path, generators)
    of_chief = draw(generators)[0]
    others = make([[4], [5]])
    with caplog.at_level(logging.WARNING):
        restore(tmp_path, others)
    assert "random states of 3 devices, found 2 workers of 1" in caplog.text
    assert draw(others) == [of_chief, of_chief]


def test_a_worker_that_cannot_see_what_the_chief_goes_on_from_does_not_start_afresh(
    tmp_path: Path,
) -> None:
    save(tmp_path / "0", make([[1], [2]]))
    shared = {"barrier": threading.Barrier(2), "values": [None] * 2}

    def run(index: int) -> SavedCheckpoint | None:
        group: Any = ThreadGroup(index, 2, shared)
        # Each has a folder of its own at the path.
        return find_checkpoint(
            WorkerCheckpoints(str(tmp_path / f"{index}"), {"model": "din"}, group)
        )

    with ThreadPoolExecutor(2) as pool:
        chief, other = pool.submit(run, 0), pool.submit(run, 1)
        found = chief.result()
        assert found is not None
        assert found.path.name == "checkpoint-000001"
        with pytest.raises(WorkerError, match=r"goes on from checkpoint-000001, which cannot be"):
            other.result()


def test_damaged_random_states_are_refused(tmp_path: Path) -> None:
    save(tmp_path, make([[1], [2]]))
    path = tmp_path / "checkpoint-000001" / GENERATORS_FILE
    # As long as it was, so that the sizes which the marker keeps still hold.
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(UnreadableCheckpointError, match="checkpoint-000001"):
        restore(tmp_path, make([[1], [2]]))


def test_only_the_chief_removes(tmp_path: Path) -> None:
    save(tmp_path, make([[1], [2]]))

    def remove(checkpoints: WorkerCheckpoints, index: int) -> None:
        if index == 1:
            checkpoints.remove()

    on_all(tmp_path, 2, remove)
    assert (tmp_path / "checkpoint-000001").exists()
