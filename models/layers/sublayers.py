"""What the layers of this package share: building parts, products, tables, fixed random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def build_sublayer(layer: Any, input_shape: Sequence[int | None]) -> None:
    """Builds a part of a layer under the part's own name, so that its weights are told apart."""
    if not layer.built:
        with tf.name_scope(layer.name):
            layer.build(tuple(input_shape))


def most_recent(table: tf.Tensor, length: tf.Tensor | int, name: str) -> tf.Tensor:
    """Returns the last ``length`` rows of a right-aligned position table.

    Args:
        table: ``[max_length, ...]``; its last row belongs to the most recent event.
        length: padded length of the batch at hand, at most ``max_length``.
        name: the layer, for the error.

    Raises:
        ValueError: a length known when the graph is built is above ``max_length``.
        tf.errors.InvalidArgumentError: the same, found when the graph runs.
    """
    maximum = table.shape[0]
    message = f"{name}: histories longer than max_length {maximum} have no position"
    if isinstance(length, int):
        if length > maximum:
            raise ValueError(f"{message}, found length {length}")
        return table[maximum - length :]
    with tf.control_dependencies([tf.debugging.assert_less_equal(length, maximum, message)]):
        return table[maximum - tf.identity(length) :]


def product_of_rows(rows: tf.Tensor, kernel: tf.Tensor, *, transpose: bool = False) -> tf.Tensor:
    """Multiplies all rows of a batch by one kernel in one product.

    Where each example has few rows, that takes half to two thirds of the time of einsum's, or of a
    product for each example.

    Args:
        rows: ``[batch, n, dim]``.
        kernel: ``[dim, columns]``; ``[columns, dim]`` to ``transpose``.
        transpose: whether the kernel lies the other way round.

    Returns:
        ``[batch, n, columns]``.
    """
    flat = tf.reshape(rows, [-1, rows.shape[-1]])
    product = tf.matmul(flat, tf.cast(kernel, rows.dtype), transpose_b=transpose)
    sizes = tf.shape(rows)
    # An empty batch leaves nothing that a size of -1 could be worked out from.
    product = tf.reshape(product, [sizes[0], sizes[1], tf.shape(product)[1]])
    return tf.ensure_shape(product, [None, rows.shape[1], kernel.shape[0 if transpose else 1]])


def size_of(tensor: tf.Tensor, axis: int) -> tf.Tensor | int:
    """Returns the size of an axis: a number where it is known, else a scalar tensor."""
    static = tensor.shape[axis]
    return tf.shape(tensor)[axis] if static is None else static


def fixed_normal(seed: int) -> Callable[..., tf.Tensor]:
    """Returns an initialiser whose values depend on the seed and the shape alone.

    Keras 2 and Keras 3 draw different values from the same seed; numpy's generator does not.
    """

    def initialise(shape: Sequence[int], dtype: Any = None, **_: Any) -> tf.Tensor:
        values = np.random.default_rng(seed).standard_normal(tuple(shape))
        return tf.cast(tf.constant(values, tf.float32), dtype or tf.float32)

    return initialise


def fixed_values(values: np.ndarray) -> Callable[..., tf.Tensor]:
    """Returns an initialiser that gives exactly ``values``."""

    def initialise(shape: Sequence[int], dtype: Any = None, **_: Any) -> tf.Tensor:
        if tuple(shape) != values.shape:
            raise ValueError(f"shape {tuple(shape)}: {values.shape} expected")
        return tf.constant(values, dtype or tf.float32)

    return initialise


def require_argument(layer: str, name: str, value: Any, wanted_by: str) -> None:
    """Rejects a call that leaves out an argument which the layer's options need."""
    if value is None:
        raise ValueError(f"{layer}: {name} is required by {wanted_by}, found None")


def require_at_least(name: str, value: float, minimum: float) -> None:
    """Rejects a constructor argument below ``minimum``."""
    if value < minimum:
        raise ValueError(f"{name} {value}: at least {minimum} is accepted")
