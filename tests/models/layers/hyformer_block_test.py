"""Tests of a HyFormer layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import HyformerBlockConfig, LengthModulation
from models.layers.hyformer_block import HyformerBlock
from models.layers.position_bias import PositionBias
from models.layers.target_position_bias import TargetPositionBias
from models.layers.target_query_gate import TargetQueryGate
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LENGTH, MASK, LayerCase, value
from tests.models.layers.spectral_length_encoder_test import gelu

MODULATION = LengthModulation(mean_length=3.0, length_deviation=2.0, length_dim=3)
ATTENTION = [(8, 8)] * 4
NORMS = [(8,)] * 4
CASES = {
    "plain": LayerCase(
        make=lambda: HyformerBlock(HyformerBlockConfig(heads=2)),
        arguments={"queries": (3, 8), "history": (LENGTH, 8), "event_mask": MASK},
        shapes=[(4, 3, 8)],
        weights=[*ATTENTION, *NORMS, (8, 32), (32,), (32, 8), (8,)],
    ),
    "full": LayerCase(
        make=lambda: HyformerBlock(
            HyformerBlockConfig(
                heads=2,
                history_dim=6,
                side_tokens=1,
                per_query_feed_forward=True,
                encode_sequence=True,
                dropout=0.1,
                modulation=MODULATION,
            )
        ),
        arguments={
            "queries": (3, 8),
            "history": (LENGTH, 6),
            "event_mask": MASK,
            "side_tokens": (1, 8),
            "bias": (3, LENGTH),
            "length": COUNT,
            "length_vector": (3,),
        },
        shapes=[(4, 3, 8)],
        weights=[
            *[(8, 8), (6, 8), (6, 8), (8, 8), (3, 8), (), ()],  # attention
            *[(6,), (6,), (6, 12), (6, 12), (12, 6)],  # sequence network
            *NORMS,
            *[(4, 8, 32), (4, 32), (4, 32, 8), (4, 8)],  # boosting
        ],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def layer_norm(layer: Any, inputs: np.ndarray) -> np.ndarray:
    centred = inputs - inputs.mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt(inputs.var(axis=-1, keepdims=True) + 1e-6)
    return normal * value(layer.gamma) + value(layer.beta)


def attend(
    layer: Any, queries: np.ndarray, history: np.ndarray, mask: np.ndarray, bias: Any, tau: Any
) -> np.ndarray:
    """Two heads of width 4, for one row of already projected queries."""
    keys = history @ value(layer.key_kernel)
    values = history @ value(layer.value_kernel)
    parts = []
    for part in (slice(0, 4), slice(4, 8)):
        logits = (queries[:, part] @ keys[:, part].T / 2.0 + bias) / tau
        parts.append(layer_checks.softmax(logits, mask) @ values[:, part])
    return np.concatenate(parts, axis=1) @ value(layer.output_kernel)


def shuffle(tokens: np.ndarray) -> np.ndarray:
    """Four tokens of width 8."""
    return np.stack([np.concatenate([t[h * 2 : h * 2 + 2] for t in tokens]) for h in range(4)])


def test_values_of_the_plain_block_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASES["plain"])
    arrays = layer_checks.example(CASES["plain"])
    found = layer_checks.call(layer, arrays)
    attention = layer.attentions[0]
    network = layer.feed_forward
    for row in range(4):
        queries = arrays["queries"][row].astype(np.float64)
        projected = layer_norm(layer.query_norm, queries) @ value(attention.query_kernel)
        queries = queries + attend(
            attention, projected, arrays["history"][row], arrays["event_mask"][row], 0.0, 1.0
        )
        tokens = np.concatenate([layer_norm(layer.boost_norm, queries), np.zeros((1, 8))])
        mixed = shuffle(tokens)[:3]
        hidden = gelu(mixed @ value(network.expand_kernel) + value(network.expand_bias))
        expected = queries + hidden @ value(network.contract_kernel) + value(network.contract_bias)
        np.testing.assert_allclose(found[row], expected, atol=5e-5)


def test_values_of_the_full_block_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASES["full"])
    arrays = layer_checks.example(CASES["full"])
    found = layer_checks.call(layer, arrays)
    attention, sequence, network = (
        layer.attentions[0],
        layer.sequence_networks[0],
        layer.feed_forward,
    )
    beta = np.log1p(np.exp(value(attention.temperature.raw_slope))) / 2.0
    gamma = np.log1p(np.exp(value(attention.temperature.raw_range)))
    for row in range(4):
        queries = arrays["queries"][row].astype(np.float64)
        events = arrays["history"][row].astype(np.float64)
        normal = layer_norm(layer.sequence_norms[0], events)
        gate = normal @ value(sequence.gate_kernel)
        gate = gate / (1 + np.exp(-gate)) * (normal @ value(sequence.expand_kernel))
        events = events + gate @ value(sequence.contract_kernel)
        projected = layer_norm(layer.query_norm, queries) @ value(attention.query_kernel)
        projected = projected + arrays["length_vector"][row] @ value(attention.length_kernel)
        tau = 1 + gamma / (1 + np.exp(beta * (arrays["length"][row] - 3.0)))
        queries = queries + attend(
            attention, projected, events, arrays["event_mask"][row], arrays["bias"][row], tau
        )
        tokens = np.concatenate([layer_norm(layer.boost_norm, queries), arrays["side_tokens"][row]])
        mixed = shuffle(tokens)
        for token in range(3):
            hidden = mixed[token] @ value(network.expand_kernel)[token]
            hidden = gelu(hidden + value(network.expand_bias)[token])
            boosted = hidden @ value(network.contract_kernel)[token]
            boosted = boosted + value(network.contract_bias)[token]
            np.testing.assert_allclose(found[row, token], queries[token] + boosted, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_encoded_history_and_candidates_give_the_same(name: str) -> None:
    case = CASES[name]
    layer = layer_checks.randomise_after_build(case)
    users, rows = layer_checks.with_candidates(case, ("queries", "side_tokens", "bias"))
    encoded = layer.encode_history(tf.constant(users["history"]))
    together = layer_checks.call(layer, {**users, "history": encoded})
    np.testing.assert_allclose(together, layer_checks.call(layer, rows), atol=1e-5)


def test_each_part_of_the_queries_reads_its_own_history() -> None:
    layer = HyformerBlock(HyformerBlockConfig(heads=2, histories=2))
    generator = np.random.default_rng(1)
    queries = generator.normal(size=(2, 4, 8)).astype(np.float32)
    first, second = generator.normal(size=(2, 2, 5, 8)).astype(np.float32)
    masks = [np.ones((2, 5), bool), np.ones((2, 3), bool)]
    layer(queries, [first, second[:, :3]], masks)
    reads = []
    for index, (history, mask) in enumerate(zip([first, second[:, :3]], masks, strict=True)):
        part = layer.query_norm(queries)[:, 2 * index : 2 * index + 2]
        reads.append(layer.attentions[index](part, history, mask))
    state = queries + np.concatenate(reads, axis=1)
    expected = state + np.array(layer.boost(tf.constant(state)))
    np.testing.assert_allclose(layer(queries, [first, second[:, :3]], masks), expected, atol=1e-5)


def test_lens_starts_as_query_positions_and_as_the_bare_block_bit_for_bit() -> None:
    arrays = layer_checks.example(CASES["plain"])
    condition = tf.random.normal([4, 5], seed=1)
    block = CASES["plain"].make()
    bare = layer_checks.call(block, arrays)
    position = PositionBias("query_specific", max_length=12, queries=3)
    target_position = TargetPositionBias(queries=3, max_length=12)
    gate = TargetQueryGate(condition_dim=5)
    history = tf.constant(arrays["history"])
    query_positions = layer_checks.call(block, {**arrays, "bias": position(history)})
    bias = position(history) + target_position(condition, history)
    queries = gate(tf.constant(arrays["queries"]), condition)
    lens = layer_checks.call(block, {**arrays, "queries": queries, "bias": bias})
    np.testing.assert_array_equal(query_positions, bare)
    np.testing.assert_array_equal(lens, bare)


def test_the_same_last_events_get_the_same_answer_with_position_biases() -> None:
    case = CASES["plain"]
    block = layer_checks.randomise_after_build(case)
    position = PositionBias("query_specific", max_length=12, queries=3)
    position(tf.zeros([1, 3, 8]))
    layer_checks.randomise(position, scale=2.0)
    arrays = layer_checks.example(case)
    padded = layer_checks.left_pad(case, arrays, 4)
    short, long = (
        layer_checks.call(block, {**each, "bias": position(tf.constant(each["history"]))})
        for each in (arrays, padded)
    )
    np.testing.assert_allclose(long, short, atol=1e-5)


def test_dropout_is_on_in_training_only() -> None:
    layer = layer_checks.randomise_after_build(CASES["full"])
    arrays = layer_checks.example(CASES["full"])
    first, *rest = arrays.values()
    inference = np.array(layer(first, *rest))
    assert (np.array(layer(first, *rest, training=True)) != inference).any()
    np.testing.assert_array_equal(layer(first, *rest, training=False), inference)


def test_bad_arguments_are_named() -> None:
    block = HyformerBlock(HyformerBlockConfig(heads=2, side_tokens=2))
    queries, history, mask = tf.ones([1, 3, 8]), tf.ones([1, 5, 8]), tf.ones([1, 5], tf.bool)
    with pytest.raises(ValueError, match="2 side_tokens expected, found 0"):
        block(queries, history, mask)
    with pytest.raises(ValueError, match="histories 2: a divisor of the 3 queries"):
        HyformerBlock(HyformerBlockConfig(heads=2, histories=2))(queries, [history] * 2, [mask] * 2)
    with pytest.raises(ValueError, match="heads 0: at least 1"):
        HyformerBlockConfig(heads=0)
