"""Tests of HyFormer's query generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.hyformer_query_generation import HyformerQueryGeneration
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LayerCase, value

CASES = {
    "joint": LayerCase(
        make=lambda: HyformerQueryGeneration(3, 4, pooled_dim=2, hidden_ratio=2),
        arguments={"features": (5,), "pooled_history": (2,)},
        shapes=[(4, 3, 4)],
        weights=[(7, 8), (8,), (1, 8, 12), (3, 4), (4,), (4,)],
    ),
    "separate": LayerCase(
        make=lambda: HyformerQueryGeneration(3, 4, hidden_ratio=2, separate=True),
        arguments={"features": (5,)},
        shapes=[(4, 3, 4)],
        weights=[(5, 24), (24,), (3, 8, 4), (3, 4), (4,), (4,)],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    features = np.concatenate(list(arrays.values()), axis=1).astype(np.float64)
    hidden = features @ value(layer.hidden_layer.kernel) + value(layer.hidden_layer.bias)
    hidden = hidden / (1 + np.exp(-hidden))
    kernel = value(layer.output_kernel)
    for query in range(3):
        if layer.separate:
            out = hidden[:, query * 8 : query * 8 + 8] @ kernel[query]
        else:
            out = hidden @ kernel[0][:, query * 4 : query * 4 + 4]
        out = out + value(layer.output_bias)[query]
        centred = out - out.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt(out.var(axis=1, keepdims=True) + 1e-6)
        expected = normal * value(layer.norm.gamma) + value(layer.norm.beta)
        found = np.array(layer_checks.call(layer, arrays))[:, query]
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_user_s_history_serves_all_candidates() -> None:
    layer = layer_checks.randomise_after_build(CASES["joint"])
    features, pooled = tf.random.normal([6, 5]), tf.random.normal([2, 2])
    together = layer(features, pooled)
    np.testing.assert_allclose(together, layer(features, tf.repeat(pooled, 3, axis=0)), atol=1e-6)


def test_a_pooled_history_that_was_not_announced_is_refused() -> None:
    with pytest.raises(ValueError, match="pooled_history belongs to a pooled_dim above 0"):
        CASES["separate"].make()(tf.zeros([1, 5]), tf.zeros([1, 2]))
    with pytest.raises(ValueError, match="pooled_history belongs to a pooled_dim above 0"):
        CASES["joint"].make()(tf.zeros([1, 5]))
