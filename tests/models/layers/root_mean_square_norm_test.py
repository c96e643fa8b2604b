"""Tests of root mean square normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.root_mean_square_norm import RootMeanSquareNorm
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASE = LayerCase(
    make=RootMeanSquareNorm,
    arguments={"inputs": (LENGTH, 4)},
    shapes=[(4, 7, 4)],
    weights=[(4,)],
    invariant=lambda output: [output[:, -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    inputs = layer_checks.example(CASE)["inputs"].astype(np.float64)
    root = np.sqrt((inputs**2).mean(axis=-1, keepdims=True) + 1e-6)
    expected = inputs / root * value(layer.scale)
    np.testing.assert_allclose(layer(tf.constant(inputs, tf.float32)), expected, atol=1e-5)


def test_zeros_stay_zeros_with_a_finite_gradient() -> None:
    layer, zeros = RootMeanSquareNorm(), tf.zeros([2, 4])
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        output = layer(zeros)
    assert (np.array(output) == 0).all()
    assert np.isfinite(np.array(tape.gradient(output, zeros))).all()
