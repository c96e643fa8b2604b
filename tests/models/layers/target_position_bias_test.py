"""Tests of the target-conditioned position bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.target_position_bias import TargetPositionBias
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASE = LayerCase(
    make=lambda: TargetPositionBias(queries=3, max_length=12, rank=2),
    arguments={"condition": (5,), "history": (LENGTH, 4)},
    shapes=[(4, 3, 7)],
    weights=[(5, 6), (12, 2)],
    invariant=lambda output: [output[..., -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_starts_at_zero_and_can_leave_it() -> None:
    layer, arrays = CASE.make(), layer_checks.example(CASE)
    assert (np.array(layer_checks.call(layer, arrays)) == 0).all()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer_checks.call(layer, arrays))
    gradient = tape.gradient(total, layer.project.trainable_weights[0])
    assert (np.array(gradient) != 0).any()


def test_positions_start_as_small_noise() -> None:
    layer = TargetPositionBias(queries=2, max_length=500)
    layer(tf.zeros([1, 5]), tf.zeros([1, 7, 4]))
    assert 0.018 < value(layer.table).std() < 0.022


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    multipliers = (arrays["condition"] @ value(layer.project.kernel)).reshape(4, 3, 2)
    expected = multipliers @ value(layer.table)[-7:].T
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-5)


def test_four_layers_have_the_paper_s_parameter_count() -> None:
    layers = [TargetPositionBias(queries=12, max_length=200) for _ in range(4)]
    for layer in layers:
        layer(tf.zeros([1, 64]), tf.zeros([1, 200, 64]))
    assert sum(layer.count_params() for layer in layers) == 30_976


def test_a_history_beyond_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"longer than max_length 12 .* found length 13"):
        CASE.make()(tf.zeros([1, 5]), tf.zeros([1, 13, 4]))
