"""Tests of a MixFormer layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import LengthModulation, MixformerBlockConfig
from models.layers.mixformer_block import MixformerBlock
from models.layers.position_bias import PositionBias
from models.layers.target_position_bias import TargetPositionBias
from models.layers.target_query_gate import TargetQueryGate
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LENGTH, MASK, LayerCase, value

MODULATION = LengthModulation(mean_length=3.0, length_deviation=2.0, length_dim=3)
WEIGHTS = [
    *[(4,), (4,), (8,), (4,)],  # norms
    *[(2, 4, 8), (2, 4, 8), (2, 8, 4)] * 2,  # query and output networks
    *[(8, 16), (8, 16), (16, 8)],  # history network
    *[(2, 4, 4), (2, 4, 4)],  # keys and values
]


def invariant(outputs: Any) -> list[Any]:
    heads, history = outputs
    return [heads, history[:, -7:]]


CASES = {
    "plain": LayerCase(
        make=lambda: MixformerBlock(MixformerBlockConfig()),
        arguments={"heads": (2, 4), "history": (LENGTH, 8), "event_mask": MASK},
        shapes=[(4, 2, 4), (4, 7, 8)],
        weights=WEIGHTS,
        invariant=invariant,
    ),
    "full": LayerCase(
        make=lambda: MixformerBlock(MixformerBlockConfig(dropout=0.1, modulation=MODULATION)),
        arguments={
            "heads": (2, 4),
            "history": (LENGTH, 8),
            "event_mask": MASK,
            "bias": (2, LENGTH),
            "length": COUNT,
            "length_vector": (3,),
        },
        shapes=[(4, 2, 4), (4, 7, 8)],
        weights=[*WEIGHTS, (3, 2, 4), (), ()],
        invariant=invariant,
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def norm(layer: Any, inputs: np.ndarray) -> np.ndarray:
    return inputs / np.sqrt((inputs**2).mean(axis=-1, keepdims=True) + 1e-6) * value(layer.scale)


def swiglu(layer: Any, inputs: np.ndarray, index: int | None = None) -> np.ndarray:
    gate, expand, contract = (
        value(kernel) if index is None else value(kernel)[index]
        for kernel in (layer.gate_kernel, layer.expand_kernel, layer.contract_kernel)
    )
    gated = inputs @ gate
    return (gated / (1 + np.exp(-gated)) * (inputs @ expand)) @ contract


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name])
    found_heads, found_history = layer_checks.call(layer, arrays)
    for row in range(4):
        heads = arrays["heads"][row].astype(np.float64)
        events = arrays["history"][row].astype(np.float64)
        normal = norm(layer.norms[0], heads)
        chunks = normal.reshape(2, 2, 2)
        mixed = heads + chunks.transpose(1, 0, 2).reshape(2, 4)
        encoded = events + swiglu(layer.networks[1], norm(layer.norms[2], events))
        np.testing.assert_allclose(found_history[row], encoded, atol=1e-4)
        bias, tau, shift = 0.0, 1.0, np.zeros((2, 4))
        if name == "full":
            beta = np.log1p(np.exp(value(layer.temperature.raw_slope))) / 2.0
            gamma = np.log1p(np.exp(value(layer.temperature.raw_range)))
            tau = 1 + gamma / (1 + np.exp(beta * (arrays["length"][row] - 3.0)))
            bias = arrays["bias"][row]
            shift = np.einsum("c,cnd->nd", arrays["length_vector"][row], value(layer.length_kernel))
        for head in range(2):
            query = mixed[head] + swiglu(layer.networks[0], norm(layer.norms[1], mixed[head]), head)
            part = encoded[:, head * 4 : head * 4 + 4]
            keys = part @ value(layer.key_kernel)[head]
            values = part @ value(layer.value_kernel)[head]
            logits = keys @ (query + shift[head]) / 2.0
            logits = (logits + (bias if np.isscalar(bias) else bias[head])) / tau
            read = layer_checks.softmax(logits, arrays["event_mask"][row]) @ values + query
            expected = read + swiglu(layer.networks[2], norm(layer.norms[3], read), head)
            np.testing.assert_allclose(found_heads[row, head], expected, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_encoded_history_and_candidates_give_the_same(name: str) -> None:
    case = CASES[name]
    layer = layer_checks.randomise_after_build(case)
    users, rows = layer_checks.with_candidates(case, ("heads", "bias"))
    expected, _ = layer_checks.call(layer, rows)
    encoded = layer.encode_history(tf.constant(users.pop("history")))
    heads, mask = users.pop("heads"), users.pop("event_mask")
    together = layer.read(tf.constant(heads), encoded, tf.constant(mask), **users)
    np.testing.assert_allclose(together, expected, atol=1e-5)


def test_all_off_is_exactly_the_bare_block_and_conditioning_starts_as_it() -> None:
    arrays = layer_checks.example(CASES["full"])
    plain_arrays = {name: arrays[name] for name in list(arrays)[:4]}
    plain = CASES["plain"].make()
    expected, _ = layer_checks.call(plain, plain_arrays)
    for switches in ({"query_key_conditioning": False}, {}):
        settings = LengthModulation(
            mean_length=3.0, length_deviation=2.0, length_dim=3, temperature=False, **switches
        )
        layer = MixformerBlock(MixformerBlockConfig(modulation=settings))
        layer_checks.call(layer, arrays)
        extra = len(layer.weights) - len(plain.weights)
        assert extra == (0 if switches else 1)
        copy_weights(plain, layer)
        found, _ = layer_checks.call(layer, arrays)
        np.testing.assert_array_equal(found, expected)


def copy_weights(source: Any, destination: Any) -> None:
    for part in ("norms", "networks"):
        for one, other in zip(getattr(source, part), getattr(destination, part), strict=True):
            other.set_weights(one.get_weights())
    for name in ("key_kernel", "value_kernel"):
        getattr(destination, name).assign(tf.convert_to_tensor(getattr(source, name)))


def test_lens_starts_as_query_positions_and_as_the_bare_block_bit_for_bit() -> None:
    arrays = layer_checks.example(CASES["plain"])
    block = CASES["plain"].make()
    bare, _ = layer_checks.call(block, arrays)
    history, condition = tf.constant(arrays["history"]), tf.random.normal([4, 5], seed=1)
    position = PositionBias("query_specific", max_length=12, queries=2)(history)
    target_position = TargetPositionBias(queries=2, max_length=12)(condition, history)
    heads = TargetQueryGate(condition_dim=5)(tf.constant(arrays["heads"]), condition)
    query_positions, _ = layer_checks.call(block, {**arrays, "bias": position})
    lens, _ = layer_checks.call(
        block, {**arrays, "heads": heads, "bias": position + target_position}
    )
    np.testing.assert_array_equal(query_positions, bare)
    np.testing.assert_array_equal(lens, bare)


def test_a_shorter_bias_leaves_prompts_at_zero() -> None:
    case = CASES["full"]
    layer = layer_checks.randomise_after_build(case)
    arrays = layer_checks.example(case)
    short = {**arrays, "bias": arrays["bias"][..., 2:]}
    zeros = np.zeros((4, 2, 2), np.float32)
    full = {**arrays, "bias": np.concatenate([zeros, short["bias"]], axis=-1)}
    np.testing.assert_array_equal(
        layer_checks.call(layer, short)[0], layer_checks.call(layer, full)[0]
    )


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="3 heads of width 4: heads must divide"):
        CASES["plain"].make()(tf.ones([1, 3, 4]), tf.ones([1, 5, 12]), tf.ones([1, 5], tf.bool))
    with pytest.raises(ValueError, match=r"dropout 1\.5: 0 to below 1"):
        MixformerBlockConfig(dropout=1.5)
