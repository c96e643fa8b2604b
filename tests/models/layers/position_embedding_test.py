"""Tests of absolute position embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.position_embedding import PositionEmbedding
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASE = LayerCase(
    make=lambda: PositionEmbedding(max_length=12),
    arguments={"history": (LENGTH, 4)},
    shapes=[(4, 7, 4)],
    weights=[(12, 4)],
    invariant=lambda output: [output[:, -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_adds_the_last_rows_of_the_table() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    expected = arrays["history"] + value(layer.table)[-7:]
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-6)


def test_starts_as_small_noise() -> None:
    layer = PositionEmbedding(max_length=500)
    table = np.array(layer(tf.zeros([1, 500, 64])))
    assert 0.015 < table.std() < 0.025
