"""Tests of the attention-gated GRU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.attention_gru import AttentionGru
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

WEIGHTS = [(4, 9), (3, 9), (9,), (3,)]
CASES = {
    "gru": LayerCase(
        make=lambda: AttentionGru(units=3),
        arguments={"inputs": (LENGTH, 4), "event_mask": MASK},
        shapes=[(4, 7, 3), (4, 3)],
        weights=WEIGHTS,
        invariant=lambda output: [output.states[:, -7:], output.last],
    ),
    "augru": LayerCase(
        make=lambda: AttentionGru(units=3),
        arguments={"inputs": (LENGTH, 4), "event_mask": MASK, "attention": (LENGTH,)},
        shapes=[(4, 7, 3), (4, 3)],
        weights=WEIGHTS,
        invariant=lambda output: [output.states[:, -7:], output.last],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["augru"])
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def sigmoid(inputs: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-inputs))


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    found = layer_checks.call(layer, arrays)
    kernel, recurrent = value(layer.kernel), value(layer.recurrent_kernel)
    bias, recurrent_bias = value(layer.bias), value(layer.recurrent_bias)
    for row in range(4):
        state = np.zeros(3)
        for at in range(7):
            if arrays["event_mask"][row, at]:
                x = arrays["inputs"][row, at] @ kernel + bias
                h = state @ recurrent
                update, reset = sigmoid(x[:3] + h[:3]), sigmoid(x[3:6] + h[3:6])
                candidate = np.tanh(x[6:] + reset * (h[6:] + recurrent_bias))
                if name == "augru":
                    update = update * arrays["attention"][row, at]
                state = (1 - update) * state + update * candidate
            np.testing.assert_allclose(found.states[row, at], state, atol=1e-5)
        np.testing.assert_allclose(found.last[row], state, atol=1e-5)


def test_an_empty_history_ends_at_zeros() -> None:
    layer = layer_checks.randomise_after_build(CASES["gru"])
    found = layer(tf.random.normal([2, 5, 4]), tf.zeros([2, 5], tf.bool))
    assert (np.array(found.last) == 0).all()


def test_padding_between_prompts_and_events_is_stepped_over() -> None:
    layer = layer_checks.randomise_after_build(CASES["gru"])
    inputs = np.random.default_rng(1).normal(size=(1, 7, 4)).astype(np.float32)
    mask = np.array([[True, True, False, False, True, True, True]])
    packed = layer(inputs[:, mask[0]], np.ones((1, 5), bool)).last
    np.testing.assert_allclose(layer(inputs, mask).last, packed, atol=1e-6)


def test_attention_of_one_is_the_plain_gru_and_of_none_keeps_the_state() -> None:
    layer = layer_checks.randomise_after_build(CASES["gru"])
    inputs, mask = tf.random.normal([2, 5, 4], seed=1), tf.ones([2, 5], tf.bool)
    plain = layer(inputs, mask)
    np.testing.assert_array_equal(layer(inputs, mask, tf.ones([2, 5])).last, plain.last)
    assert (np.array(layer(inputs, mask, tf.zeros([2, 5])).last) == 0).all()
