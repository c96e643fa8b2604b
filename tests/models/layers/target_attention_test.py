"""Tests of multi-head target attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.target_attention import TargetAttention
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

CASES = {
    "one_query": LayerCase(
        make=lambda: TargetAttention(attention_dim=8, heads=2, history_dim=5, output_dim=3),
        arguments={"query": (1, 6), "history": (LENGTH, 5), "event_mask": MASK},
        shapes=[(4, 1, 3)],
        weights=[(6, 8), (5, 8), (5, 8), (8, 3)],
    ),
    "many_queries_with_bias": LayerCase(
        make=lambda: TargetAttention(attention_dim=8, heads=4),
        arguments={
            "query": (9, 6),
            "history": (LENGTH, 6),
            "event_mask": MASK,
            "bias": (9, LENGTH),
        },
        shapes=[(4, 9, 6)],
        weights=[(6, 8), (6, 8), (6, 8), (8, 6)],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def reference(
    layer: Any, query: np.ndarray, history: np.ndarray, event_mask: np.ndarray, bias: Any = 0.0
) -> np.ndarray:
    """The formula, head by head and row by row."""
    width = layer.head_dim
    out = np.zeros((*query.shape[:2], layer.attention_dim))
    for row in range(len(query)):
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            q = query[row] @ value(layer.query_kernel)[:, part]
            k = history[row] @ value(layer.key_kernel)[:, part]
            v = history[row] @ value(layer.value_kernel)[:, part]
            logits = q @ k.T / np.sqrt(width) + (bias if np.isscalar(bias) else bias[row])
            out[row, :, part] = layer_checks.softmax(logits, event_mask[row]) @ v
    return out @ value(layer.output_kernel)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    expected = reference(layer, **{"bias": 0.0, **arrays})
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_encoded_history_gives_the_same_as_the_history(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    plain = layer_checks.call(layer, arrays)
    encoded = layer.encode_history(tf.constant(arrays["history"]))
    split = layer(arrays["query"], encoded, arrays["event_mask"], arrays.get("bias"))
    np.testing.assert_allclose(split, plain, atol=1e-5)


def test_few_queries_do_not_form_keys_and_many_do() -> None:
    layer = layer_checks.randomise_after_build(CASES["one_query"])
    history = tf.zeros([2, 3, 64])
    assert TargetAttention(64, heads=4)._absorbs(history, 12)
    assert not TargetAttention(64, heads=4)._absorbs(history, 40)
    assert layer.heads == 2


@pytest.mark.parametrize("encode", [False, True])
def test_candidates_of_a_user_are_answered_as_if_alone(encode: bool) -> None:
    case = CASES["many_queries_with_bias"]
    layer = layer_checks.randomise_after_build(case)
    users = layer_checks.example(case, real=(2, 5))
    query = np.random.default_rng(5).normal(size=(6, 9, 6)).astype(np.float32)
    bias = np.random.default_rng(6).normal(size=(6, 9, 7)).astype(np.float32)
    history = tf.constant(users["history"])
    together = layer(
        query, layer.encode_history(history) if encode else history, users["event_mask"], bias
    )
    repeated = {name: np.repeat(array, 3, axis=0) for name, array in users.items()}
    alone = layer(query, repeated["history"], repeated["event_mask"], bias)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_one_row_of_bias_serves_all_candidates_and_queries() -> None:
    case = CASES["many_queries_with_bias"]
    layer = layer_checks.randomise_after_build(case)
    users = layer_checks.example(case, real=(2, 5))
    query = np.random.default_rng(5).normal(size=(6, 9, 6)).astype(np.float32)
    bias = np.random.default_rng(6).normal(size=(1, 1, 7)).astype(np.float32)
    shared = layer(query, users["history"], users["event_mask"], bias)
    repeated = layer(query, users["history"], users["event_mask"], np.broadcast_to(bias, (6, 9, 7)))
    np.testing.assert_allclose(shared, repeated, atol=1e-6)


def test_a_shorter_bias_leaves_the_first_positions_at_zero() -> None:
    case = CASES["many_queries_with_bias"]
    layer = layer_checks.randomise_after_build(case)
    arrays = layer_checks.example(case)
    short = {**arrays, "bias": arrays["bias"][..., 2:]}
    full = {**arrays, "bias": np.concatenate([np.zeros((4, 9, 2), "f"), short["bias"]], axis=2)}
    np.testing.assert_array_equal(layer_checks.call(layer, short), layer_checks.call(layer, full))


def test_padding_has_no_weight_and_an_empty_history_none_at_all() -> None:
    case = CASES["one_query"]
    layer = layer_checks.randomise_after_build(case)
    arrays = layer_checks.example(case)
    weights = np.array(layer.attention_weights(**arrays))
    mask = np.broadcast_to(arrays["event_mask"][:, None, None, :], weights.shape)
    assert (weights[~mask] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1)[:, 0, 0], [0, 1, 1, 1], atol=1e-6)
    assert (np.array(layer_checks.call(layer, arrays))[0] == 0).all()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="heads 3: a divisor of attention_dim 8"):
        TargetAttention(attention_dim=8, heads=3)
    with pytest.raises(ValueError, match="attention_dim 0: at least 1"):
        TargetAttention(attention_dim=0)
