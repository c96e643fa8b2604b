"""Tests of the conditioning projection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.length_conditioning import LengthConditioning
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASE = LayerCase(
    make=lambda: LengthConditioning(length_dim=3),
    arguments={"inputs": (LENGTH, 4), "length_vector": (3,)},
    shapes=[(4, 7, 4)],
    weights=[(4, 4), (3, 4)],
    invariant=lambda output: [output[:, -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_starts_as_the_identity_bit_for_bit() -> None:
    arrays = layer_checks.example(CASE)
    np.testing.assert_array_equal(layer_checks.call(CASE.make(), arrays), arrays["inputs"])


def test_is_the_projection_of_the_concatenation() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    vector = np.repeat(arrays["length_vector"][:, None], 7, axis=1)
    together = np.concatenate([arrays["inputs"], vector], axis=-1)
    expected = together @ np.concatenate([value(layer.kernel), value(layer.length_kernel)])
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-5)


def test_a_user_s_length_vector_serves_all_candidates() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    target, vector = tf.random.normal([6, 4]), tf.random.normal([2, 3])
    together = layer(target, vector)
    np.testing.assert_allclose(together, layer(target, tf.repeat(vector, 3, axis=0)), atol=1e-6)
