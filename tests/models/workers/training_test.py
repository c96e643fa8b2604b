"""Tests of trainings on two workers, two processes on this machine."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.workers.board import Board, Training
from models.workers.cluster import Cluster
from models.workers.errors import WorkerError
from models.workers.member import take_part
from models.workers.supervisor import supervise
from tests.models import tiny_training
from tests.models.workers.addresses import free_address

# Two more processes import TensorFlow, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)

NO_DROPOUT = {"dropout": 0.0, "embedding_dropout": 0.0}
# 64 rows: the last batch has one row, so that the second worker has none of it.
TRAIN = {"batch_size": 21, "max_epochs": 1, "refit": False, "checkpoint_minutes": 60}


def train_on_two(
    folder: Path, *, stall_seconds: float = 3600.0, **arguments: Any
) -> dict[str, Any]:
    """Trains as the chief, with a member in another thread; each starts a process."""
    addresses = (free_address(), free_address())
    training = Training(
        id=uuid.uuid4().hex,
        addresses=addresses,
        target="tests.models.tiny_training.train_worker",
        arguments={"folder": str(folder), **arguments},
        stall_seconds=stall_seconds,
    )
    board = Board(folder / "workers")

    def take_part_or_fail() -> None:
        try:
            take_part(Cluster(addresses=addresses, index=1), board)
        except WorkerError as error:
            (folder / "member_error").write_text(str(error))

    member = threading.Thread(target=take_part_or_fail)
    member.start()
    time.sleep(0.5)  # the member must have looked before the chief begins
    board.announce(training)
    try:
        result: dict[str, Any] = supervise(training, Cluster(addresses=addresses, index=0), board)
    finally:
        member.join()
    return result


def weights(folder: Path, worker: int) -> list[np.ndarray]:
    with np.load(folder / f"weights-{worker}.npz") as archive:
        return [archive[name] for name in archive.files]


def check_equal_to_one_device(folder: Path, train: dict[str, Any]) -> None:
    tiny_training.make_files(folder)
    one = tiny_training.train(folder, None, model=NO_DROPOUT, train=train)
    result = train_on_two(folder, model=NO_DROPOUT, train=train)
    for epoch, expected in zip(result["epochs"], one.epochs, strict=True):
        assert epoch["examples"] == expected.examples == 64
        assert epoch["loss"] == pytest.approx(expected.loss, rel=1e-5)
        assert epoch["validation"] == pytest.approx(expected.validation, rel=1e-5)
    chief, member = weights(folder, 0), weights(folder, 1)
    for found, other, expected in zip(chief, member, tiny_training.weights_of(one), strict=True):
        np.testing.assert_array_equal(found, other)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_workers_train_the_same_model_as_one_device(tmp_path: Path) -> None:
    check_equal_to_one_device(tmp_path, TRAIN)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "lazy_adam", "ftrl"])
def test_each_table_optimizer_sums_the_rows_of_all_workers(optimizer: str, tmp_path: Path) -> None:
    train = {**TRAIN, "max_epochs": 2, "refit": True, "table_optimizer": optimizer}
    if optimizer == "ftrl":
        train["learning_rate_schedule"] = "constant"
    check_equal_to_one_device(tmp_path, train)


@pytest.mark.slow
def test_a_killed_worker_is_named_and_a_restart_ends_with_the_weights_of_one_run(
    tmp_path: Path,
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # Dropout: the random state is in the checkpoint too.
    train = {**TRAIN, "max_epochs": 2, "checkpoint_minutes": 1e-9}
    for folder in (killed, whole):
        folder.mkdir()
        tiny_training.make_files(folder)
    train_on_two(whole, model={}, train=train)
    with pytest.raises(WorkerError, match=r"^worker 1 \(127.*: its training process .* by SIGKILL"):
        train_on_two(killed, model={}, train=train, kill={"worker": 1, "save": 3})
    assert "worker 1 " in (killed / "member_error").read_text()
    result = train_on_two(killed, model={}, train=train)
    assert Path(result["resumed_from"]).name >= "checkpoint-000003"
    for resumed, expected in zip(weights(killed, 0), weights(whole, 0), strict=True):
        np.testing.assert_array_equal(resumed, expected)


@pytest.mark.slow
def test_a_worker_that_was_stopped_is_named(tmp_path: Path) -> None:
    tiny_training.make_files(tmp_path)
    train = {**TRAIN, "checkpoint_minutes": 1e-9}
    with pytest.raises(WorkerError, match=r"^worker 1 \(127.*, does not run, stopped or held up"):
        train_on_two(
            tmp_path, model={}, train=train, stall_seconds=600.0,
            kill={"worker": 1, "save": 2, "signal": "SIGSTOP"},
        )  # fmt: skip
    assert "worker 1 " in (tmp_path / "member_error").read_text()


@pytest.mark.slow
def test_a_bad_record_is_told_in_the_words_of_the_worker_that_read_it(tmp_path: Path) -> None:
    tiny_training.make_files(tmp_path)
    path = tmp_path / "train_0"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(WorkerError, match=r"worker \d .*train_0: record 35, .* is truncated"):
        train_on_two(tmp_path, model={}, train=TRAIN)
