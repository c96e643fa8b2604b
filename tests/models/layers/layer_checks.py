"""What every layer must pass, under Keras 2 and under Keras 3.

A test file describes its layer by a ``LayerCase`` and runs each function of ``CHECKS`` on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

LENGTH = "length"  # an axis of a shape: the padded length
MASK = "mask"  # an argument: which events are real
COUNT = "count"  # an argument: how many are

PADDED = 7
REAL = (0, 1, 2, PADDED)


@dataclass(frozen=True, kw_only=True)
class LayerCase:
    """A layer and how to try it.

    Attributes:
        make: makes the layer.
        arguments: by name of the call argument, in order: the shape without the batch axis, where
            ``LENGTH`` stands for the padded length, or ``MASK`` or ``COUNT``.
        shapes: shape of each output for a batch of 4 and a padded length of 7.
        weights: shapes of all weights, in any order.
        invariant: picks, from an output and the padded length, what may not depend on padding.
    """

    make: Callable[[], Any]
    arguments: dict[str, Any]
    shapes: list[tuple[int, ...]]
    weights: list[tuple[int, ...]]
    invariant: Callable[[Any], list[Any]] = field(default=tf.nest.flatten)


def example(
    case: LayerCase, *, real: tuple[int, ...] = REAL, padded: int = PADDED, seed: int = 1
) -> dict[str, np.ndarray]:
    """Returns arrays for each argument, one row for each entry of ``real``."""
    generator = np.random.default_rng(seed)
    mask = np.arange(padded)[None, :] >= padded - np.array(real, int)[:, None]
    arrays: dict[str, np.ndarray] = {}
    for name, shape in case.arguments.items():
        if shape == MASK:
            arrays[name] = mask
        elif shape == COUNT:
            arrays[name] = np.array(real, np.int32)
        else:
            sizes = [padded if size == LENGTH else size for size in shape]
            arrays[name] = generator.normal(size=(len(real), *sizes)).astype(np.float32)
    return arrays


def left_pad(case: LayerCase, arrays: dict[str, np.ndarray], more: int) -> dict[str, np.ndarray]:
    """Returns the arrays with ``more`` masked positions of noise on the left."""
    generator = np.random.default_rng(2)
    padded = {}
    for name, array in arrays.items():
        shape = case.arguments[name]
        axis = 1 if shape == MASK else 1 + shape.index(LENGTH) if LENGTH in shape else None
        if shape == COUNT or axis is None:
            padded[name] = array
            continue
        size = list(array.shape)
        size[axis] = more
        noise = generator.normal(size=size).astype(np.float32)
        front = np.zeros(size, bool) if shape == MASK else noise
        padded[name] = np.concatenate([front, array], axis=axis)
    return padded


def with_candidates(
    case: LayerCase, target_side: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns two users with three candidates each, and the same as six users.

    Args:
        case: the layer.
        target_side: arguments that have a row for each candidate.
    """
    users = example(case, real=(2, 5))
    rows = {name: np.repeat(array, 3, axis=0) for name, array in users.items()}
    candidates = example(case, real=(PADDED,) * 6, seed=5)
    for name in target_side:
        if name in users:
            users[name] = rows[name] = candidates[name]
    return users, rows


def call(layer: Any, arrays: dict[str, Any]) -> Any:
    """Calls a layer with arguments by name."""
    first, *rest = arrays
    tensors = {
        name: array if isinstance(array, list | tuple) else tf.convert_to_tensor(array)
        for name, array in arrays.items()
    }
    return layer(tensors[first], **{name: tensors[name] for name in rest})


def randomise(layer: Any, seed: int = 3, scale: float = 0.5) -> Any:
    """Gives every trainable weight random values, also those that start at zero."""
    generator = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        weight.assign(generator.normal(scale=scale, size=tuple(weight.shape)).astype(np.float32))
    return layer


def value(weight: Any) -> np.ndarray:
    """Returns a weight as an array of doubles."""
    return np.array(tf.convert_to_tensor(weight), np.float64)


def softmax(logits: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Softmax over the last axis in plain numpy, zeros where nothing is real."""
    mask = np.broadcast_to(True if mask is None else mask, logits.shape)
    weights = np.where(mask, np.exp(logits - logits.max(axis=-1, keepdims=True)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def check_shapes_and_weights(case: LayerCase, _: Path) -> None:
    layer = case.make()
    outputs = tf.nest.flatten(call(layer, example(case)))
    assert [tuple(output.shape) for output in outputs] == case.shapes
    assert sorted(tuple(weight.shape) for weight in layer.weights) == sorted(case.weights)


def check_training_step(case: LayerCase, _: Path) -> None:
    layer = randomise_after_build(case)
    before = [value(weight) for weight in layer.trainable_weights]
    gradients, _ = gradients_of(layer, example(case))
    assert all(gradient is not None for gradient in gradients)
    if not before:
        return
    keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, layer.trainable_weights, strict=True))
    after = [value(weight) for weight in layer.trainable_weights]
    assert all(np.isfinite(weight).all() for weight in after)
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def check_every_length_is_finite(case: LayerCase, _: Path) -> None:
    layer = case.make()
    for real, padded in ((REAL, PADDED), ((0,), PADDED), ((0, 0), 0), ((), PADDED)):
        arrays = example(case, real=real, padded=padded)
        outputs = tf.nest.flatten(call(layer, arrays))
        assert all(np.isfinite(np.array(output, np.float64)).all() for output in outputs)
        to_weights, to_inputs = gradients_of(layer, arrays)
        for gradient in (*to_weights, *to_inputs):
            assert gradient is None or np.isfinite(dense(gradient)).all()


def check_padding_makes_no_difference(case: LayerCase, _: Path) -> None:
    layer = randomise_after_build(case)
    arrays = example(case)
    short = case.invariant(call(layer, arrays))
    long = case.invariant(call(layer, left_pad(case, arrays, 3)))
    for one, other in zip(short, long, strict=True):
        one, other = np.array(one, np.float64), np.array(other, np.float64)
        assert other.shape == one.shape
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def check_unknown_sizes_when_traced(case: LayerCase, _: Path) -> None:
    layer = randomise_after_build(case)
    arrays = example(case)
    specs = {
        name: tf.TensorSpec([None, *_open_shape(case.arguments[name])], array.dtype, name=name)
        for name, array in arrays.items()
    }
    traced = tf.function(lambda values: call(layer, values), input_signature=[specs])
    # Also where a whole group of rows has no history.
    for given in (arrays, example(case, real=(0, 0), padded=0)):
        eager, graph = (tf.nest.flatten(run(given)) for run in (partial(call, layer), traced))
        for one, other in zip(eager, graph, strict=True):
            np.testing.assert_allclose(np.array(other), np.array(one), rtol=1e-5, atol=1e-5)


def check_mixed_precision(case: LayerCase, _: Path) -> None:
    for half in (tf.float16, tf.bfloat16):
        keras.mixed_precision.set_global_policy(f"mixed_{half.name}")
        try:
            layer = case.make()
            arrays = example(case)
            outputs = tf.nest.flatten(call(layer, arrays))
            gradients, _ = gradients_of(layer, arrays)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        assert {output.dtype for output in outputs} <= {half, tf.float32, tf.bool, tf.int32}
        assert all(np.isfinite(dense(output)).all() for output in outputs)
        assert all(tf.as_dtype(weight.dtype) == tf.float32 for weight in layer.weights)
        assert all(np.isfinite(dense(gradient)).all() for gradient in gradients)


def check_config_round_trip(case: LayerCase, _: Path) -> None:
    layer = case.make()
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config


def check_save_and_reload(case: LayerCase, folder: Path) -> None:
    layer = case.make()
    arrays = example(case)
    inputs = {
        name: keras.Input(_open_shape(case.arguments[name]), dtype=str(array.dtype), name=name)
        for name, array in arrays.items()
    }
    first, *rest = inputs
    output = layer(inputs[first], **{name: inputs[name] for name in rest})
    model = keras.Model(inputs, tf.nest.flatten(output))
    randomise(layer)
    expected = model(arrays)
    model.save(folder / "model.keras")
    reloaded = keras.models.load_model(folder / "model.keras")
    again = reloaded.get_layer(layer.name)
    assert type(again) is type(layer)
    assert json.dumps(again.get_config()) == json.dumps(layer.get_config())
    found = reloaded(arrays)
    for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
        np.testing.assert_array_equal(other, one)


CHECKS = [
    check_shapes_and_weights,
    check_training_step,
    check_every_length_is_finite,
    check_padding_makes_no_difference,
    check_unknown_sizes_when_traced,
    check_mixed_precision,
    check_config_round_trip,
    check_save_and_reload,
]


def randomise_after_build(case: LayerCase) -> Any:
    """Returns the case's layer with random weights."""
    layer = case.make()
    call(layer, example(case))
    return randomise(layer)


def gradients_of(layer: Any, arrays: dict[str, np.ndarray]) -> tuple[list[Any], list[Any]]:
    """Returns gradients of the summed squares of all outputs, to weights and to inputs."""
    tensors = {name: tf.convert_to_tensor(array) for name, array in arrays.items()}
    floats = [tensor for tensor in tensors.values() if tensor.dtype.is_floating]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(floats)
        outputs = tf.nest.flatten(call(layer, tensors))
        loss = tf.add_n(
            [
                tf.reduce_sum(tf.square(tf.cast(output, tf.float32)))
                for output in outputs
                if output.dtype.is_floating
            ]
        )
    return tape.gradient(loss, layer.trainable_weights), tape.gradient(loss, floats)


def dense(gradient: Any) -> np.ndarray:
    """Returns a gradient as an array, also one of gathered rows."""
    return np.array(tf.convert_to_tensor(gradient), np.float64)


def _open_shape(shape: Any) -> list[int | None]:
    if shape == MASK:
        return [None]
    if shape == COUNT:
        return []
    return [None if size == LENGTH else size for size in shape]
