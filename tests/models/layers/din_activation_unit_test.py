"""Tests of DIN's activation unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from models.layers import candidates
from models.layers.din_activation_unit import DinActivationUnit
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

CASE = LayerCase(
    make=lambda: DinActivationUnit(hidden_units=(6, 3)),
    arguments={"target": (4,), "events": (LENGTH, 4)},
    shapes=[(4, 7)],
    weights=[(16, 6), (6,), (1, 6), (6, 3), (3,), (1, 3), (3, 1), (1,)],
    invariant=lambda output: [np.array(output)[:, -7:]],
)
DENSE = [(16, 6), (6,), (6, 3), (3,), (3, 1), (1,)]
STATISTICS = [(6,), (6,), (), (3,), (3,), ()]


def with_statistics(weights: list[tuple[int, ...]], **options: Any) -> LayerCase:
    return LayerCase(
        make=lambda: DinActivationUnit((6, 3), **options),
        arguments={**CASE.arguments, "event_mask": MASK},
        shapes=CASE.shapes,
        weights=[*DENSE, *weights],
        invariant=CASE.invariant,
    )


OPTIONS = {
    "dice": with_statistics([(6,), (3,), *STATISTICS], activation="dice"),
    "batch_norm": with_statistics(
        [(1, 6), (1, 3), *STATISTICS, (6,), (6,), (3,), (3,)], batch_norm=True
    ),
    "both": with_statistics(
        [(6,), (3,), *STATISTICS, *STATISTICS, (6,), (6,), (3,), (3,)],
        activation="dice",
        batch_norm=True,
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", [CASE, *OPTIONS.values()], ids=["prelu", *OPTIONS])
def test_layer_contract(case: LayerCase, check: Any, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", [CASE, OPTIONS["both"]], ids=["prelu", "both"])
def test_all_parts_compute_in_the_layer_s_own_precision(case: LayerCase) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = type(case.make()).from_config({**case.make().get_config(), "dtype": "float32"})
        found = layer_checks.call(layer, layer_checks.example(case))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.float32
    for part in (*layer.activations, *layer.normalizations, *layer.later_layers):
        assert part.compute_dtype == "float32"


def test_bad_arguments_are_named() -> None:
    for units in ((), (4, 0)):
        with pytest.raises(ValueError, match=r"hidden_units \[.*\]: one or more widths expected"):
            DinActivationUnit(units)


def train(layer: Any, arrays: dict[str, Any]) -> np.ndarray:
    return np.array(
        layer(arrays["target"], arrays["events"], event_mask=arrays["event_mask"], training=True)
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_padding_makes_no_difference_in_training(name: str) -> None:
    case = OPTIONS[name]
    arrays = layer_checks.example(case)
    padded = layer_checks.left_pad(case, arrays, 3)
    one, other = (layer_checks.randomise_after_build(case) for _ in range(2))
    mask = arrays["event_mask"]
    short, long = train(one, arrays), train(other, padded)[:, 3:]
    np.testing.assert_allclose(long[mask], short[mask], atol=1e-5)
    assert (short[mask] != np.array(layer_checks.call(case.make(), arrays))[mask]).any()
    for weight, same in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(same, weight, atol=1e-5)
    # What was learned from both is the same, and scoring looks at nothing else.
    alone = {
        key: array[2:3, -2:] if key != "target" else array[2:3] for key, array in arrays.items()
    }
    whole = np.array(layer_checks.call(one, arrays))[2:3, -2:]
    np.testing.assert_allclose(layer_checks.call(other, alone), whole, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("real", "padded"), [((0, 0), 7), ((1,), 1), ((7, 0), 7), ((), 7)])
def test_training_is_finite_at_every_length(name: str, real: tuple[int, ...], padded: int) -> None:
    case = OPTIONS[name]
    layer = case.make()
    arrays = layer_checks.example(case, real=real, padded=padded)
    with tf.GradientTape() as tape:
        output = layer(
            arrays["target"], arrays["events"], event_mask=arrays["event_mask"], training=True
        )
        loss = tf.reduce_sum(tf.square(output))
    assert np.isfinite(output).all()
    assert all(np.isfinite(value(weight)).all() for weight in layer.weights)
    for gradient in tape.gradient(loss, layer.trainable_weights):
        assert np.isfinite(np.array(gradient)).all()


def test_dice_after_batch_normalisation_by_the_formula() -> None:
    case = OPTIONS["both"]
    layer = layer_checks.randomise_after_build(case)
    arrays = layer_checks.example(case)
    target, events, mask = (arrays[name] for name in ("target", "events", "event_mask"))
    repeated = np.broadcast_to(target[:, None, :], events.shape)
    hidden = np.concatenate([repeated, events, repeated - events, repeated * events], axis=-1)
    kernels = [layer.kernel, *(dense.kernel for dense in layer.later_layers)]
    biases = [layer.bias, *(dense.bias for dense in layer.later_layers)]
    for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        hidden = hidden @ value(kernel) + value(bias)
        if index == len(layer.activations):
            break
        real, normaliser = hidden[mask], layer.normalizations[index]
        hidden = (hidden - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-3)
        hidden = hidden * value(normaliser.scale) + value(normaliser.shift)
        real = hidden[mask]
        share = 1 / (1 + np.exp(-(hidden - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-8)))
        hidden = hidden * (share + (1 - share) * value(layer.activations[index].alpha))
    np.testing.assert_allclose(train(layer, arrays), hidden[..., 0], atol=2e-4)


def test_decomposed_form_equals_the_plain_one() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    target, events = arrays["target"], arrays["events"]
    repeated = np.broadcast_to(target[:, None, :], events.shape)
    hidden = np.concatenate([repeated, events, repeated - events, repeated * events], axis=-1)
    kernels = [layer.kernel, *(dense.kernel for dense in layer.later_layers)]
    biases = [layer.bias, *(dense.bias for dense in layer.later_layers)]
    for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        hidden = hidden @ value(kernel) + value(bias)
        if index < len(layer.activations):
            slope = value(layer.activations[index].alpha)
            hidden = np.where(hidden > 0, hidden, slope * hidden)
    np.testing.assert_allclose(
        layer_checks.call(layer, arrays), hidden[..., 0], rtol=1e-5, atol=1e-5
    )


def test_widths_must_be_given() -> None:
    with pytest.raises(ValueError, match="hidden_units"):
        DinActivationUnit(hidden_units=())


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="swish"):
        DinActivationUnit(activation="swish")


def test_candidates_of_a_user_are_scored_as_if_alone() -> None:
    layer = DinActivationUnit(hidden_units=(6, 3))
    random = np.random.default_rng(0)
    target = random.normal(size=[6, 4]).astype(np.float32)
    events = random.normal(size=[2, 5, 4]).astype(np.float32)
    together = layer(target, events)
    assert together.shape == (6, 5)
    np.testing.assert_allclose(together, layer(target, np.repeat(events, 3, axis=0)), atol=1e-6)


def test_a_key_projection_is_folded_into_the_unit() -> None:
    layer = DinActivationUnit(hidden_units=(6, 3))
    random = np.random.default_rng(0)
    target, events, kernel, shift = (
        random.normal(size=shape).astype(np.float32)
        for shape in ((6, 4), (2, 5, 4), (4, 4), (2, 4))
    )
    expected = layer(target, events @ kernel + shift[:, None])
    found = layer(target, events, key_kernel=kernel, key_shift=shift)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "key projection"])
def test_value_and_gradient_of_one_hidden_layer_are_those_of_the_concatenation(
    keyed: bool,
) -> None:
    layer = DinActivationUnit(hidden_units=(6,), dtype="float64")
    random = np.random.default_rng(0)
    target, events, key_kernel, key_shift, weights = (
        tf.constant(random.normal(size=shape))
        for shape in ((3, 4), (3, 5, 4), (4, 4), (3, 4), (3, 5))
    )
    layer(target, events)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=tuple(weight.shape)))
    # Keras 3 wraps the variables that a tape knows.
    variables = [getattr(weight, "_value", weight) for weight in layer.trainable_weights]
    sources = [target, events, key_kernel, key_shift, *variables]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources)
        key = {"key_kernel": key_kernel, "key_shift": key_shift} if keyed else {}
        found = layer(target, events, **key)
        keys = events @ key_kernel + key_shift[:, None] if keyed else events
        repeated = tf.broadcast_to(target[:, None], tf.shape(keys))
        joined = tf.concat([repeated, keys, repeated - keys, repeated * keys], axis=-1)
        kernel, bias, slope, last_kernel, last_bias = (
            # The parts of the unit keep their weights in float32.
            tf.cast(weight, tf.float64)
            for weight in (
                layer.kernel,
                layer.bias,
                layer.activations[0].alpha,
                layer.later_layers[0].kernel,
                layer.later_layers[0].bias,
            )
        )
        hidden = joined @ kernel + bias
        hidden = tf.where(hidden > 0, hidden, slope * hidden)
        expected = tf.squeeze(hidden @ last_kernel + last_bias, -1)
        losses = [tf.reduce_sum(weights * logits) for logits in (found, expected)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    gradients = [tape.gradient(loss, sources) for loss in losses]
    for source, one, other in zip(sources, *gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            tolerance = 1e-11 if source.dtype == tf.float64 else 1e-5
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("units", [(6,), (6, 3)])
def test_candidates_scored_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, units: tuple[int, ...]
) -> None:
    monkeypatch.setattr(candidates, "CHUNK_NUMBERS", 2 * 2 * 5 * 6)  # two candidates
    layer = DinActivationUnit(hidden_units=units)
    random = np.random.default_rng(0)
    target = random.normal(size=[10, 4]).astype(np.float32)
    events = random.normal(size=[2, 5, 4]).astype(np.float32)
    at_once = layer(target, events)
    np.testing.assert_allclose(layer(target, events, in_chunks=True), at_once, atol=1e-6)
