"""Tests of length-conditioned prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.length_prompts import LengthPrompts, prepend_prompts
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LayerCase, value
from tests.models.layers.spectral_length_encoder_test import gelu

CASE = LayerCase(
    make=lambda: LengthPrompts(count=3, dim=4),
    arguments={"length_vector": (6,)},
    shapes=[(4, 3, 4)],
    weights=[(6, 8), (8,), (8, 12), (12,)],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    vectors = layer_checks.example(CASE)["length_vector"]
    hidden = gelu(vectors @ value(layer.hidden_layer.kernel) + value(layer.hidden_layer.bias))
    flat = hidden @ value(layer.output_layer.kernel) + value(layer.output_layer.bias)
    np.testing.assert_allclose(layer(vectors), flat.reshape(4, 3, 4), atol=1e-5)


def test_prompts_stand_in_front_and_are_never_masked() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    prompts = layer(tf.ones([2, 6]))
    history = tf.random.normal([2, 5, 4])
    mask = tf.constant([[False] * 5, [False] * 3 + [True] * 2])
    extended, extended_mask = prepend_prompts(prompts, history, mask)
    np.testing.assert_array_equal(extended[:, :3], prompts)
    np.testing.assert_array_equal(extended[:, 3:], history)
    assert np.array(extended_mask[:, :3]).all()
    np.testing.assert_array_equal(extended_mask[:, 3:], mask)


def test_starts_with_four_small_prompts() -> None:
    layer = LengthPrompts(dim=64)
    assert layer(tf.ones([1, 64])).shape == (1, 4, 64)
    assert 0.018 < value(layer.output_layer.kernel).std() < 0.022


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="count 0: at least 1"):
        LengthPrompts(count=0, dim=4)
