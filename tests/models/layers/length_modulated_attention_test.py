"""Tests of length-modulated attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import LengthModulation
from models.layers.length_modulated_attention import LengthModulatedAttention
from models.layers.length_prompts import LengthPrompts, prepend_prompts
from models.layers.target_attention import TargetAttention
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LENGTH, MASK, LayerCase, value


def modulation(**switches: bool) -> LengthModulation:
    return LengthModulation(mean_length=3.0, length_deviation=2.0, length_dim=3, **switches)


def make(settings: LengthModulation | None) -> LengthModulatedAttention:
    return LengthModulatedAttention(8, heads=2, modulation=settings)


ARGUMENTS = {
    "query": (2, 6),
    "history": (LENGTH, 6),
    "event_mask": MASK,
    "bias": (2, LENGTH),
    "length": COUNT,
    "length_vector": (3,),
}
PLAIN_WEIGHTS = [(6, 8), (6, 8), (6, 8), (8, 6)]
CASES = {
    "both": LayerCase(
        make=lambda: make(modulation()),
        arguments=ARGUMENTS,
        shapes=[(4, 2, 6)],
        weights=[*PLAIN_WEIGHTS, (3, 8), (), ()],
    ),
    "conditioning": LayerCase(
        make=lambda: make(modulation(temperature=False)),
        arguments=ARGUMENTS,
        shapes=[(4, 2, 6)],
        weights=[*PLAIN_WEIGHTS, (3, 8)],
    ),
    "temperature": LayerCase(
        make=lambda: make(modulation(query_key_conditioning=False)),
        arguments=ARGUMENTS,
        shapes=[(4, 2, 6)],
        weights=[*PLAIN_WEIGHTS, (), ()],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASES["both"], tmp_path)


@pytest.mark.parametrize("name", ["conditioning", "temperature"])
def test_each_switch_brings_its_own_weights(name: str, tmp_path: Path) -> None:
    layer_checks.check_shapes_and_weights(CASES[name], tmp_path)
    layer_checks.check_config_round_trip(CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula_with_any_length_columns_of_the_keys(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    columns = np.zeros((3, 8))
    if layer.length_dim:
        columns = value(layer.length_kernel)
    # The layer leaves the keys' columns out; the formula has them.
    key_columns = np.random.default_rng(8).normal(size=(3, 8))
    tau = np.ones(4)
    if layer.temperature is not None:
        beta = np.log1p(np.exp(value(layer.temperature.raw_slope))) / 2.0
        gamma = np.log1p(np.exp(value(layer.temperature.raw_range)))
        tau = 1 + gamma / (1 + np.exp(beta * (arrays["length"] - 3.0)))
    out = np.zeros((4, 2, 8))
    for row in range(4):
        vector = arrays["length_vector"][row]
        query = np.concatenate([arrays["query"][row], np.tile(vector, (2, 1))], axis=1)
        keys = np.concatenate([arrays["history"][row], np.tile(vector, (7, 1))], axis=1)
        q = query @ np.concatenate([value(layer.query_kernel), columns])
        k = keys @ np.concatenate([value(layer.key_kernel), key_columns])
        v = arrays["history"][row] @ value(layer.value_kernel)
        for part in (slice(0, 4), slice(4, 8)):
            logits = (q[:, part] @ k[:, part].T / 2.0 + arrays["bias"][row]) / tau[row]
            weights = layer_checks.softmax(logits, arrays["event_mask"][row])
            out[row, :, part] = weights @ v[:, part]
    expected = out @ value(layer.output_kernel)
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-5)


def same_weights(layer: Any, other: Any) -> None:
    for name in ("query_kernel", "key_kernel", "value_kernel", "output_kernel"):
        getattr(other, name).assign(tf.convert_to_tensor(getattr(layer, name)))


@pytest.mark.parametrize(
    "settings",
    [None, modulation(temperature=False, query_key_conditioning=False)],
    ids=["none", "both_off"],
)
def test_all_off_is_exactly_the_backbone_s_attention(settings: LengthModulation | None) -> None:
    arrays = layer_checks.example(CASES["both"])
    plain_arrays = {name: arrays[name] for name in list(arrays)[:4]}
    plain = TargetAttention(8, heads=2)
    expected = layer_checks.call(plain, plain_arrays)
    layer = make(settings)
    layer_checks.call(layer, plain_arrays)
    same_weights(plain, layer)
    assert len(layer.weights) == len(plain.weights)
    np.testing.assert_array_equal(layer_checks.call(layer, plain_arrays), expected)


def test_conditioning_alone_starts_as_the_backbone_bit_for_bit() -> None:
    arrays = layer_checks.example(CASES["conditioning"])
    plain = TargetAttention(8, heads=2)
    expected = layer_checks.call(plain, {name: arrays[name] for name in list(arrays)[:4]})
    layer = CASES["conditioning"].make()
    layer_checks.call(layer, arrays)
    assert (value(layer.length_kernel) == 0).all()
    same_weights(plain, layer)
    np.testing.assert_array_equal(layer_checks.call(layer, arrays), expected)


def test_short_histories_are_read_more_evenly() -> None:
    layer = make(modulation(query_key_conditioning=False))
    history = tf.random.normal([1, 7, 6], seed=1) * 3
    arguments = (tf.ones([1, 1, 6]), history, tf.ones([1, 7], tf.bool), None)
    layer(*arguments, tf.constant([1]))
    short, long = (
        np.array(layer.attention_weights(*arguments, tf.constant([length]))).max()
        for length in (1, 100)
    )
    assert short < long


def test_prompts_are_read_get_no_bias_and_do_not_count_as_length() -> None:
    layer = make(modulation())
    prompts = LengthPrompts(count=2, dim=6)
    arrays = layer_checks.example(CASES["both"])
    extended, mask = prepend_prompts(
        prompts(arrays["length_vector"]), tf.constant(arrays["history"]), arrays["event_mask"]
    )
    arguments = (arrays["query"], extended, mask)
    rest = (arrays["length"], arrays["length_vector"])
    layer(*arguments, arrays["bias"], *rest)
    weights = np.array(layer.attention_weights(*arguments, arrays["bias"], *rest))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(weights[0, ..., :2].sum(axis=-1), 1, atol=1e-6)
    zeros = np.concatenate([np.zeros((4, 2, 2), np.float32), arrays["bias"]], axis=-1)
    np.testing.assert_array_equal(weights, layer.attention_weights(*arguments, zeros, *rest))


def test_encoded_history_and_candidates_give_the_same() -> None:
    layer = layer_checks.randomise_after_build(CASES["both"])
    users = layer_checks.example(CASES["both"], real=(2, 5))
    query = np.random.default_rng(5).normal(size=(6, 2, 6)).astype(np.float32)
    bias = np.random.default_rng(6).normal(size=(6, 2, 7)).astype(np.float32)
    side = (users["length"], users["length_vector"])
    encoded = layer.encode_history(tf.constant(users["history"]))
    together = layer(query, encoded, users["event_mask"], bias, *side)
    repeated = {name: np.repeat(array, 3, axis=0) for name, array in users.items()}
    alone = layer_checks.call(layer, {**repeated, "query": query, "bias": bias})
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_missing_argument_is_named() -> None:
    arguments = (tf.ones([1, 1, 6]), tf.ones([1, 7, 6]), tf.ones([1, 7], tf.bool))
    with pytest.raises(ValueError, match="length_vector is required"):
        CASES["conditioning"].make()(*arguments)
    with pytest.raises(ValueError, match="length is required"):
        CASES["temperature"].make()(*arguments)


def test_a_temperature_is_not_left_out_where_candidates_see_windows() -> None:
    windows = tf.ones([1, 2, 7], tf.bool)
    arguments = (tf.ones([2, 1, 6]), tf.ones([1, 7, 6]), windows, None, tf.constant([7]))
    with pytest.raises(ValueError, match=r"event_mask \[batch, length\] is accepted with a temper"):
        CASES["temperature"].make()(*arguments)
