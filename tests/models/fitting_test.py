"""Tests of trainings that are killed and go on."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.fitting import FitResult, Phase, Progress, find_checkpoint
from models.training import Epoch, TrainingError
from models.training_checkpoints import MARKER_FILE
from tests.models import tiny_training

ROOT = Path(__file__).resolve().parents[2]

# Each start of TensorFlow takes a minute on a machine that is busy.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_training")
    tiny_training.make_files(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> FitResult:
    return tiny_training.train(folder, None)


def kill(folder: Path, number: int, moment: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    process = subprocess.run(
        [sys.executable, "-m", "tests.models.tiny_training", str(folder), str(number), moment],
        cwd=ROOT, env={**environment, "TF_USE_LEGACY_KERAS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == -9, process.stderr[-3000:]


def terminal_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["line"] for record in caplog.records if "line" in vars(record)]


def without_times(epochs: list[Epoch]) -> list[dict[str, Any]]:
    kept = ("epoch", "examples", "loss", "label_mean", "padding_share", "validation")
    return [{name: dataclasses.asdict(epoch)[name] for name in kept} for epoch in epochs]


def test_killed_twice_it_ends_with_the_weights_of_one_run(
    folder: Path, uninterrupted: FitResult, caplog: pytest.LogCaptureFixture
) -> None:
    saved = folder / "checkpoints"
    # An epoch has 4 steps: the third checkpoint is being written in the middle of the first.
    kill(folder, 3, "during")
    assert len(list(saved.glob(".staging-*"))) == 1
    assert sorted(path.name for path in saved.glob("ch*")) == [
        "checkpoint-000001", "checkpoint-000002",
    ]  # fmt: skip
    # Goes on with steps 3 and 4, two epoch ends, epoch 2, then the refit: inside its first epoch.
    kill(folder, 10, "after")
    assert not list(saved.glob(".staging-*"))
    with caplog.at_level(logging.INFO):
        result = tiny_training.train(folder, tiny_training.make_checkpoints(folder))
    [line] = terminal_lines(caplog)
    assert line == (
        f"training goes on from {saved / 'checkpoint-000012'}: step 2 of epoch 1 (refit)"
    )
    assert result.resumed_from.endswith("checkpoint-000012")
    assert without_times(result.epochs) == without_times(uninterrupted.epochs)
    assert without_times(result.refit_epochs) == without_times(uninterrupted.refit_epochs)
    pairs = zip(
        tiny_training.weights_of(result), tiny_training.weights_of(uninterrupted), strict=True
    )
    for resumed, expected in pairs:
        np.testing.assert_array_equal(resumed, expected)


def test_a_training_of_another_configuration_starts_afresh(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = tiny_training.make_checkpoints(tmp_path)
    checkpoints.save({"steps": tf.Variable(1.0)}, Progress().to_plain(), where="step 0")
    checkpoints.identity = {"model": {**tiny_training.MODEL, "embedding_dim": 8}}
    with caplog.at_level(logging.INFO):
        result = tiny_training.train(
            folder, checkpoints, train={"max_epochs": 1, "refit": False, "checkpoint_minutes": 9}
        )
    assert result.resumed_from == ""
    [line] = terminal_lines(caplog)
    assert line.startswith("training starts afresh: checkpoint ")
    assert "model.embedding_dim is 4 there, 8 here" in line


@pytest.mark.parametrize("phase", list(Phase))
def test_without_the_weights_of_the_best_epoch_choosing_starts_afresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, phase: Phase
) -> None:
    checkpoints = tiny_training.make_checkpoints(tmp_path)
    values = {"steps": tf.Variable(1.0)}
    best = checkpoints.save(values, Progress(best=1).to_plain(), where="step 1")
    progress = Progress(phase=phase, epoch=2, best=1, best_checkpoint=best).to_plain()
    pinned = {best} if phase is Phase.CHOOSE else ()
    newest = checkpoints.save(values, progress, where="step 2", pinned=pinned)
    (checkpoints.folder / best / MARKER_FILE).unlink()
    with caplog.at_level(logging.INFO):
        saved = find_checkpoint(checkpoints)
    line = terminal_lines(caplog)[-1]
    if phase is Phase.CHOOSE:
        assert saved is None
        assert line.startswith("training starts afresh: checkpoint ")
        assert best in line
        assert not checkpoints.folder.exists()
    else:
        assert saved is not None
        assert saved.path.name == newest


def test_progress_survives_as_plain_values() -> None:
    progress = Progress(epoch=3, best=2, best_checkpoint="checkpoint-000002", seconds=1.5)
    progress.tally.loss = 0.1 + 0.2
    assert Progress.from_plain(progress.to_plain()) == progress


def test_a_weight_that_is_no_number_is_not_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("models.training.TrainingLoop.is_finite", lambda self: self.steps < 2)
    checkpoints = tiny_training.make_checkpoints(tmp_path)
    with pytest.raises(TrainingError, match=r"step 2 of epoch 1.*last good one is .*000001"):
        tiny_training.train(folder, checkpoints)
    saved = checkpoints.newest()
    assert saved is not None
    assert saved.progress["tally"]["steps"] == 1
