"""The examples of docs/layers.md do what the page says, under this version of Keras."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "layers.md"
LAYERS = Path(__file__).resolve().parents[3] / "models" / "layers"
LENGTHS = np.array([0, 2, 5])
DIM = 8


@pytest.fixture(scope="module")
def classes() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL):
        exec(block, names)
    return names


def histories(padded: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the same three histories padded on the left with noise, and their mask."""
    events = np.random.default_rng(1).normal(size=(len(LENGTHS), padded, DIM))
    for row, length in enumerate(LENGTHS):
        generator = np.random.default_rng(row + 2)
        events[row, padded - length :] = generator.normal(size=(length, DIM))
    mask = np.arange(padded) >= padded - LENGTHS[:, None]
    return tf.constant(events, tf.float32), tf.constant(mask)


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(9).normal(size=shape), tf.float32)


def test_lain_reads_the_history_and_not_its_padding(classes: dict[str, Any]) -> None:
    layer = classes["LengthAdaptedInterest"](DIM, 10, mean_length=3.0, length_deviation=2.0)
    target = normal(len(LENGTHS), DIM)
    read = layer(target, *histories(5)).numpy()
    assert read.shape == (len(LENGTHS), DIM)
    np.testing.assert_allclose(layer(target, *histories(8)), read, atol=1e-5)
    assert np.abs(layer(target[::-1], *histories(5)).numpy() - read).max() > 1e-3


def test_lens_starts_as_plain_attention_and_learns(classes: dict[str, Any]) -> None:
    layer = classes["TargetConditionedRead"](queries=3, dim=DIM, max_length=10)
    queries, target = normal(len(LENGTHS), 3, DIM), normal(len(LENGTHS), DIM)
    history, mask = histories(8)
    with tf.GradientTape() as tape:
        read = layer(queries, target, history, mask)
        loss = tf.reduce_sum(tf.square(read))
    plain = layer.attention(queries, history, mask)
    np.testing.assert_allclose(read, plain, atol=1e-6)
    learned = [layer.gate.project.kernel, layer.curves.table, layer.bent_curves.project.kernel]
    for gradient in tape.gradient(loss, learned):
        assert np.abs(gradient.numpy()).max() > 1e-6


def test_the_modules_listed_are_those_that_hold_a_layer() -> None:
    rows = re.findall(r"^\| .* \| (`.*`) \|$", GUIDE.read_text("utf-8"), flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    layers = {
        path.stem
        for path in LAYERS.glob("*.py")
        if "@keras.utils.register_keras_serializable" in path.read_text("utf-8")
    }
    assert listed == layers
