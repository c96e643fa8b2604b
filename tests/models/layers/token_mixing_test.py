"""Tests of token mixing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.token_mixing import TokenMixing, padded_token_count
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LayerCase, value
from tests.models.layers.spectral_length_encoder_test import gelu

CASES = {
    "shuffle": LayerCase(
        make=TokenMixing, arguments={"tokens": (3, 8)}, shapes=[(4, 3, 8)], weights=[]
    ),
    "mlp": LayerCase(
        make=lambda: TokenMixing("mlp"),
        arguments={"tokens": (3, 8)},
        shapes=[(4, 3, 8)],
        weights=[(3, 6), (6,), (6, 3), (3,)],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.parametrize(("tokens", "dim"), [(4, 8), (16, 64), (1, 5)])
def test_mixing_twice_gives_the_tokens_back(tokens: int, dim: int) -> None:
    layer = TokenMixing()
    inputs = tf.random.normal([3, tokens, dim])
    np.testing.assert_array_equal(layer(layer(inputs)), inputs)


def test_new_token_is_a_chunk_of_every_token() -> None:
    inputs = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    np.testing.assert_array_equal(TokenMixing()(inputs)[0], inputs[0].T)
    inputs = np.arange(24, dtype=np.float32).reshape(1, 3, 8)  # mixed as 4 tokens
    mixed = [
        [0, 1, 8, 9, 16, 17, 0, 0],
        [2, 3, 10, 11, 18, 19, 0, 0],
        [4, 5, 12, 13, 20, 21, 0, 0],
    ]
    np.testing.assert_array_equal(TokenMixing()(inputs)[0], mixed)


def test_twelve_tokens_of_width_64_are_mixed_as_sixteen() -> None:
    assert padded_token_count(12, 64) == 16
    assert padded_token_count(16, 64) == 16
    assert padded_token_count(7, 7) == 7
    inputs = np.random.default_rng(1).normal(size=(2, 12, 64)).astype(np.float32)
    padded = np.concatenate([inputs, np.zeros((2, 4, 64), np.float32)], axis=1)
    np.testing.assert_array_equal(TokenMixing()(inputs), TokenMixing()(padded)[:, :12])


def test_mlp_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASES["mlp"])
    tokens = layer_checks.example(CASES["mlp"])["tokens"]
    hidden = np.swapaxes(tokens, 1, 2) @ value(layer.expand.kernel) + value(layer.expand.bias)
    mixed = gelu(hidden) @ value(layer.contract.kernel) + value(layer.contract.bias)
    np.testing.assert_allclose(layer(tokens), np.swapaxes(mixed, 1, 2), atol=1e-5)


def test_more_tokens_than_width_are_refused() -> None:
    with pytest.raises(ValueError, match="9 tokens of width 8"):
        TokenMixing()(tf.zeros([1, 9, 8]))
