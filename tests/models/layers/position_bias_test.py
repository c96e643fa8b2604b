"""Tests of global and query-specific position biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.position_bias import PositionBias
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASES = {
    "global": LayerCase(
        make=lambda: PositionBias("global", max_length=12),
        arguments={"history": (LENGTH, 4)},
        shapes=[(1, 1, 7)],
        weights=[(12, 1)],
        invariant=lambda output: [output[..., -7:]],
    ),
    "query_specific": LayerCase(
        make=lambda: PositionBias("query_specific", max_length=12, queries=3),
        arguments={"history": (LENGTH, 4)},
        shapes=[(1, 3, 7)],
        weights=[(12, 3)],
        invariant=lambda output: [output[..., -7:]],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_starts_at_zero_and_its_last_column_is_the_most_recent_event(name: str) -> None:
    layer = CASES[name].make()
    assert (np.array(layer(tf.zeros([2, 5, 4]))) == 0).all()
    layer_checks.randomise(layer)
    bias = np.array(layer(tf.zeros([2, 5, 4])))[0]
    np.testing.assert_allclose(bias, value(layer.table)[-5:].T, rtol=1e-6)


def test_query_positions_have_the_paper_s_parameter_count() -> None:
    layers = [PositionBias("query_specific", max_length=200, queries=12) for _ in range(4)]
    for layer in layers:
        layer(tf.zeros([1, 200, 64]))
    assert sum(layer.count_params() for layer in layers) == 9_600


def test_a_history_beyond_the_table_is_refused() -> None:
    layer = PositionBias("global", max_length=4)
    with pytest.raises(ValueError, match=r"longer than max_length 4 .* found length 5"):
        layer(tf.zeros([1, 5, 2]))
    traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 2])])
    with pytest.raises(tf.errors.InvalidArgumentError, match="longer than max_length 4"):
        traced(tf.zeros([1, 5, 2]))
