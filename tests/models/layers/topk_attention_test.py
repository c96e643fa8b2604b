"""Tests of TWIN's two-stage attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import LengthModulation
from models.layers.target_attention import TargetAttention
from models.layers.topk_attention import TopKAttention
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LENGTH, MASK, LayerCase, value

MODULATION = LengthModulation(mean_length=3.0, length_deviation=2.0, length_dim=3)
WEIGHTS = [(6, 8), (6, 8), (6, 8), (8, 6)]
PLAIN = {"target": (6,), "history": (LENGTH, 6), "event_mask": MASK}
FULL = {**PLAIN, "prompts": (2, 6), "length": COUNT, "length_vector": (3,)}
CASES = {
    "plain": LayerCase(
        make=lambda: TopKAttention(8, heads=2, count=3),
        arguments=PLAIN,
        shapes=[(4, 6)],
        weights=WEIGHTS,
    ),
    "full": LayerCase(
        make=lambda: TopKAttention(8, heads=2, count=3, modulation=MODULATION),
        arguments=FULL,
        shapes=[(4, 6)],
        weights=[*WEIGHTS, (3, 8), (), ()],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = layer_checks.randomise_after_build(CASES[name])
    arrays = layer_checks.example(CASES[name], real=(0, 1, 2, 7, 6))
    found = layer_checks.call(layer, arrays)
    key, value_kernel = value(layer.key_kernel), value(layer.value_kernel)
    for row, count in enumerate((0, 1, 2, 7, 6)):
        events = arrays["history"][row][7 - count :].astype(np.float64)
        query = arrays["target"][row] @ value(layer.query_kernel)
        tau = 1.0
        prompts = np.zeros((0, 6))
        if name == "full":
            query = query + arrays["length_vector"][row] @ value(layer.length_kernel)
            beta = np.log1p(np.exp(value(layer.temperature.raw_slope))) / 2.0
            gamma = np.log1p(np.exp(value(layer.temperature.raw_range)))
            tau = 1 + gamma / (1 + np.exp(beta * (arrays["length"][row] - 3.0)))
            prompts = arrays["prompts"][row]
        parts = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = events @ key[:, part] @ query[part] / 2.0
            chosen = events[np.argsort(-scores, kind="stable")[:3]]
            seen = np.concatenate([prompts, chosen])
            logits = seen @ key[:, part] @ query[part] / 2.0 / tau
            weights = layer_checks.softmax(logits) if len(seen) else logits
            parts.append(weights @ (seen @ value_kernel[:, part]))
        expected = np.concatenate(parts) @ value(layer.output_kernel)
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_choosing_all_events_is_plain_target_attention() -> None:
    arrays = layer_checks.example(CASES["plain"])
    layer = TopKAttention(8, heads=2, count=50)
    found = layer_checks.call(layer, arrays)
    plain = TargetAttention(8, heads=2)
    arguments = (arrays["target"][:, None], arrays["history"], arrays["event_mask"])
    plain(*arguments)
    for name in ("query_kernel", "key_kernel", "value_kernel", "output_kernel"):
        getattr(plain, name).assign(tf.convert_to_tensor(getattr(layer, name)))
    np.testing.assert_allclose(found, np.array(plain(*arguments))[:, 0], atol=1e-5)


def test_gradients_are_those_of_one_pass_over_all_events() -> None:
    arrays = layer_checks.example(CASES["plain"], real=(7, 6))
    layer = layer_checks.randomise_after_build(CASES["plain"])
    events = arrays["history"].astype(np.float64)
    query = (arrays["target"] @ value(layer.query_kernel)).reshape(2, 2, 4)
    keys = (events @ value(layer.key_kernel)).reshape(2, 7, 2, 4)
    scores = np.einsum("bhe,blhe->bhl", query, keys)
    scores[~np.broadcast_to(arrays["event_mask"][:, None], scores.shape)] = -np.inf
    chosen = scores >= np.sort(scores, axis=-1)[..., -3:-2]
    found = layer.chosen(*(tf.constant(array) for array in arrays.values()))
    np.testing.assert_array_equal(found[:, 0], chosen)
    history = tf.constant(arrays["history"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(history)
        found_sum = tf.reduce_sum(tf.square(layer(arrays["target"], history, arrays["event_mask"])))
        query = tf.reshape(tf.matmul(arrays["target"], layer.query_kernel), [2, 2, 4]) / 2.0
        keys = tf.reshape(tf.matmul(history, layer.key_kernel), [2, 7, 2, 4])
        values = tf.reshape(tf.matmul(history, layer.value_kernel), [2, 7, 2, 4])
        logits = tf.einsum("bhe,blhe->bhl", query, keys)
        weights = tf.nn.softmax(tf.where(chosen, logits, -1e9))
        read = tf.reshape(tf.einsum("bhl,blhe->bhe", weights, values), [2, 8])
        one_pass = tf.reduce_sum(tf.square(tf.matmul(read, layer.output_kernel)))
    sources = [history, *layer.trainable_weights]
    for one, other in zip(
        tape.gradient(found_sum, sources), tape.gradient(one_pass, sources), strict=True
    ):
        np.testing.assert_allclose(
            layer_checks.dense(one), layer_checks.dense(other), rtol=1e-3, atol=1e-4
        )


def test_padding_is_never_chosen() -> None:
    layer = layer_checks.randomise_after_build(CASES["plain"])
    arrays = layer_checks.example(CASES["plain"])
    chosen = np.array(layer.chosen(*(tf.constant(array) for array in arrays.values())))
    assert chosen.sum(axis=-1)[:, 0].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert not chosen[~np.broadcast_to(arrays["event_mask"][:, None, None], chosen.shape)].any()


def test_temperature_changes_what_is_read() -> None:
    arrays = layer_checks.example(CASES["full"])
    layer = layer_checks.randomise_after_build(CASES["full"])
    before = layer_checks.call(layer, arrays)
    after = layer_checks.call(layer, {**arrays, "length": arrays["length"] + 9})
    assert (np.array(before)[1:] != np.array(after)[1:]).any()


def test_candidates_of_a_user_are_answered_as_if_alone() -> None:
    layer = layer_checks.randomise_after_build(CASES["full"])
    users, rows = layer_checks.with_candidates(CASES["full"], ("target",))
    np.testing.assert_allclose(
        layer_checks.call(layer, users), layer_checks.call(layer, rows), atol=1e-5
    )
    arguments = {name: tf.constant(array) for name, array in users.items()}
    shared = layer(arguments.pop("target"), **arguments, shared_history=True)
    np.testing.assert_allclose(shared, layer_checks.call(layer, rows), atol=1e-5)


def test_conditioning_alone_starts_as_the_plain_attention_bit_for_bit() -> None:
    arrays = layer_checks.example(CASES["full"])
    plain = CASES["plain"].make()
    expected = plain(*(arrays[name] for name in PLAIN))
    settings = LengthModulation(
        mean_length=3.0, length_deviation=2.0, length_dim=3, temperature=False
    )
    layer = TopKAttention(8, heads=2, count=3, modulation=settings)
    arguments = {name: arrays[name] for name in (*PLAIN, "length_vector")}
    layer_checks.call(layer, arguments)
    for name in ("query_kernel", "key_kernel", "value_kernel", "output_kernel"):
        getattr(layer, name).assign(tf.convert_to_tensor(getattr(plain, name)))
    np.testing.assert_array_equal(layer_checks.call(layer, arguments), expected)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="heads 3: a divisor of attention_dim 8"):
        TopKAttention(8, heads=3)
    with pytest.raises(ValueError, match="length_vector is required"):
        CASES["full"].make()(tf.ones([1, 6]), tf.ones([1, 7, 6]), tf.ones([1, 7], tf.bool))
