"""Tests of checkpoints on disk: whole or not at all, and refused with the reason."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.checkpoints import CheckpointError
from models.training_checkpoints import (
    MARKER_FILE,
    PROGRESS_FILE,
    TrainingCheckpoints,
    find_damage,
    list_differences,
)

IDENTITY = {"model": {"embedding_dim": 8}, "vocabularies": {"item_id": {"entries": 3}}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> TrainingCheckpoints:
    return TrainingCheckpoints(str(tmp_path / "checkpoints"), IDENTITY)


def save(checkpoints: TrainingCheckpoints, step: int, **options: Any) -> str:
    values = {"weight": tf.Variable([float(step), 2.0])}
    return checkpoints.save(values, {"step": step}, where=f"step {step}", **options)


def read(checkpoints: TrainingCheckpoints) -> tuple[int, list[float]]:
    saved = checkpoints.newest()
    assert saved is not None
    weight = tf.Variable([0.0, 0.0])
    checkpoints.restore(saved, {"weight": weight}, partly=False)
    return saved.progress["step"], weight.numpy().tolist()


def names(checkpoints: TrainingCheckpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_last_two_and_the_pinned_one_are_kept(checkpoints: TrainingCheckpoints) -> None:
    assert checkpoints.newest() is None
    first = save(checkpoints, 1)
    for step in (2, 3, 4):
        save(checkpoints, step, pinned={first})
    assert names(checkpoints) == ["checkpoint-000001", "checkpoint-000003", "checkpoint-000004"]
    assert read(checkpoints) == (4, [4.0, 2.0])
    assert checkpoints.find(first).progress == {"step": 1}
    # Whoever goes on from the fourth needs the first still.
    save(checkpoints, 5)
    assert names(checkpoints) == ["checkpoint-000001", "checkpoint-000004", "checkpoint-000005"]
    save(checkpoints, 6)
    assert names(checkpoints) == ["checkpoint-000005", "checkpoint-000006"]
    checkpoints.remove()
    assert checkpoints.newest() is None


def test_one_whose_pinned_one_is_damaged_is_refused(checkpoints: TrainingCheckpoints) -> None:
    pinned = save(checkpoints, 1)
    save(checkpoints, 2, pinned={pinned})
    assert read(checkpoints) == (2, [2.0, 2.0])
    (checkpoints.folder / pinned / MARKER_FILE).unlink()
    with pytest.raises(CheckpointError, match=pinned):
        checkpoints.newest()


def test_one_of_an_earlier_release_is_refused_by_its_identity(
    checkpoints: TrainingCheckpoints,
) -> None:
    folder = checkpoints.folder / save(checkpoints, 1)
    path, marker = folder / PROGRESS_FILE, folder / MARKER_FILE
    content, sizes = json.loads(path.read_text()), json.loads(marker.read_text())
    del content["pinned"]
    content["identity"]["source_hash"] = "older"
    path.write_text(json.dumps(content))
    marker.write_text(json.dumps({**sizes, PROGRESS_FILE: path.stat().st_size}))
    with pytest.raises(CheckpointError, match='source_hash is "older" there'):
        checkpoints.newest()


@pytest.mark.parametrize("damage", ["marker", "truncated", "missing"])
def test_a_damaged_one_is_passed_over(checkpoints: TrainingCheckpoints, damage: str) -> None:
    save(checkpoints, 1)
    newest = checkpoints.folder / save(checkpoints, 2)
    data = next(newest.glob("state.data*"))
    if damage == "marker":
        (newest / MARKER_FILE).unlink()
    elif damage == "truncated":
        os.truncate(data, data.stat().st_size - 1)
    else:
        data.unlink()
    assert find_damage(newest)
    assert read(checkpoints) == (1, [1.0, 2.0])
    with pytest.raises(CheckpointError, match=newest.name):
        checkpoints.find(newest.name)
    # The good one stays until there are two good ones again.
    save(checkpoints, 3)
    assert names(checkpoints) == ["checkpoint-000001", "checkpoint-000003"]


def test_bytes_that_changed_are_refused(checkpoints: TrainingCheckpoints) -> None:
    data = next((checkpoints.folder / save(checkpoints, 1)).glob("state.data*"))
    content = bytearray(data.read_bytes())
    content[1] ^= 255
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match="checkpoint-000001"):
        read(checkpoints)


def test_another_model_or_vocabulary_is_refused_with_the_reason(
    checkpoints: TrainingCheckpoints,
) -> None:
    save(checkpoints, 1)
    other = {"model": {"embedding_dim": 16}, "vocabularies": {"item_id": {"entries": 4}}}
    with pytest.raises(CheckpointError) as caught:
        TrainingCheckpoints(str(checkpoints.folder), other).newest()
    assert "model.embedding_dim is 8 there, 16 here" in str(caught.value)
    assert "vocabularies.item_id.entries is 3 there, 4 here" in str(caught.value)


def test_weights_of_another_shape_are_refused(checkpoints: TrainingCheckpoints) -> None:
    save(checkpoints, 1)
    saved = checkpoints.newest()
    assert saved is not None
    for values in ({"weight": tf.Variable([0.0])}, {"other": tf.Variable([0.0, 0.0])}):
        with pytest.raises(CheckpointError, match="cannot be read into this model"):
            checkpoints.restore(saved, values, partly=False)


def test_a_full_disk_names_the_step_and_keeps_the_last(
    checkpoints: TrainingCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 1)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"at step 2 .*No space left.*checkpoint-000001"):
        save(checkpoints, 2)
    assert names(checkpoints) == ["checkpoint-000001"]
    assert read(checkpoints) == (1, [1.0, 2.0])


def test_a_disk_that_tensorflow_finds_full_is_named_too(
    checkpoints: TrainingCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; there is no earlier"):
        save(checkpoints, 1)
    assert names(checkpoints) == []


def test_differences_are_listed_by_key() -> None:
    saved, wanted = {"a": {"b": 1, "c": [2]}, "gone": 1}, {"a": {"b": 1, "c": [3]}, "new": "x"}
    assert list_differences(saved, wanted) == [
        "a.c is [2] there, [3] here",
        "gone is 1 there, nothing here",
        'new is nothing there, "x" here',
    ]
    assert list_differences(saved, saved) == []
