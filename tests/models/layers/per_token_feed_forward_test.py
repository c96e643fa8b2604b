"""Tests of the feed-forward network with weights for each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.layers.per_token_feed_forward import PerTokenFeedForward
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value
from tests.models.layers.spectral_length_encoder_test import gelu

CASES = {
    "gelu": LayerCase(
        make=lambda: PerTokenFeedForward(2),
        arguments={"tokens": (3, 4)},
        shapes=[(4, 3, 4)],
        weights=[(3, 4, 8), (3, 8), (3, 8, 4), (3, 4)],
    ),
    "swiglu": LayerCase(
        make=lambda: PerTokenFeedForward(2, "swiglu"),
        arguments={"tokens": (3, 4)},
        shapes=[(4, 3, 4)],
        weights=[(3, 4, 8), (3, 4, 8), (3, 8, 4)],
    ),
    "shared_silu": LayerCase(
        make=lambda: PerTokenFeedForward(2, "silu", shared=True),
        arguments={"tokens": (LENGTH, 4)},
        shapes=[(4, 7, 4)],
        weights=[(4, 8), (8,), (8, 4), (4,)],
        invariant=lambda output: [output[:, -7:]],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["swiglu", "shared_silu"])
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def silu(inputs: np.ndarray) -> np.ndarray:
    return inputs / (1 + np.exp(-inputs))


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str, tmp_path: Path) -> None:
    layer_checks.check_shapes_and_weights(CASES[name], tmp_path)
    layer = layer_checks.randomise_after_build(CASES[name])
    tokens = layer_checks.example(CASES[name])["tokens"]
    for index in range(tokens.shape[1]):
        one = tokens[:, index].astype(np.float64)
        at = (slice(None),) if layer.shared else (index,)
        hidden = one @ value(layer.expand_kernel)[at]
        if name == "swiglu":
            hidden = silu(one @ value(layer.gate_kernel)[at]) * hidden
            expected = hidden @ value(layer.contract_kernel)[at]
        else:
            activation = gelu if name == "gelu" else silu
            hidden = activation(hidden + value(layer.expand_bias)[at])
            expected = hidden @ value(layer.contract_kernel)[at] + value(layer.contract_bias)[at]
        np.testing.assert_allclose(layer(tokens)[:, index], expected, atol=1e-5)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="hidden_ratio 0: at least 1"):
        PerTokenFeedForward(0)
    with pytest.raises(ValueError, match="'tanh' is not a valid FeedForwardKind"):
        PerTokenFeedForward(2, "tanh")
