"""Tests of what is seen of a training."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tensorflow as tf

from models.monitor import TrainingMonitor, memory_mb
from models.tally import Tally

STEP = Tally(
    steps=1, examples=100, positives=20, loss=50.0, events=600, padded_events=800, seconds=2.0,
    input_seconds=0.5,
)  # fmt: skip


def test_tallies_add_up() -> None:
    tally = Tally()
    for _ in range(3):
        tally.add(STEP)
    assert (tally.steps, tally.examples, tally.events) == (3, 300, 1800)
    assert tally.examples_per_second == pytest.approx(50.0)
    assert tally.tokens_per_second == pytest.approx(300.0)
    assert tally.padding_share == pytest.approx(0.25)
    assert tally.input_wait_share == pytest.approx(0.25)
    assert tally.mean_loss == pytest.approx(0.5)
    assert Tally().padding_share == 0.0


def test_a_line_a_minute_and_scalars_for_tensorboard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.monitor.SECONDS_BETWEEN_LINES", 3600.0)
    monitor = TrainingMonitor(str(tmp_path))
    with caplog.at_level(logging.INFO):
        monitor.add(STEP, "epoch 1/2", 1)
        assert not caplog.records
        monkeypatch.setattr("models.monitor.SECONDS_BETWEEN_LINES", 0.0)
        monitor.add(STEP, "epoch 1/2", 2)
    (record,) = caplog.records
    assert record.name == "lengthwise.progress"
    assert record.message.startswith(
        "epoch 1/2, step 2: 50 examples/s, 300 tokens/s, 25% padding, 25% waiting for input, "
    )
    assert record.message.endswith(" MB, loss 0.5000")
    (file,) = tmp_path.iterdir()
    scalars = {
        value.tag: float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert scalars["train/tokens_per_second"] == pytest.approx(300.0)
    assert scalars["train/input_wait_share"] == pytest.approx(0.25)
    assert set(scalars) == {
        f"train/{name}"
        for name in (
            "loss", "examples_per_second", "tokens_per_second", "padding_share",
            "input_wait_share", "memory_mb",
        )
    }  # fmt: skip


def test_figures_that_cannot_be_written_do_not_end_a_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = TrainingMonitor(str(tmp_path))

    def fail() -> None:
        # What TensorFlow makes of a full disk.
        raise tf.errors.OutOfRangeError(None, None, "events.out: No space left on device")

    monkeypatch.setattr(monitor._writer, "flush", fail)
    monitor.write({"loss": 0.5}, 7)
    assert "figures of step 7: events.out: No space left on device" in caplog.text


def test_memory_is_that_of_a_process_with_tensorflow() -> None:
    assert 100 < memory_mb() < 100_000
