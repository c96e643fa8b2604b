"""A gated recurrent unit whose update can be gated by attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.layers.sublayers import require_at_least


class RecurrentStates(NamedTuple):
    """Result of a recurrent layer.

    Attributes:
        states: ``[batch, length, units]``, the state after each position.
        last: ``[batch, units]``, the state after the last.
    """

    states: tf.Tensor
    last: tf.Tensor


@keras.utils.register_keras_serializable(package="lengthwise")
class AttentionGru(keras.layers.Layer):
    """A GRU that steps over padding, with the update gate of AUGRU where attention is given.

    Formula, for event x at position j with attention a::

        u  = sigmoid(x W_u + h U_u + b_u)        r = sigmoid(x W_r + h U_r + b_r)
        n  = tanh(x W_n + b_n + r * (h U_n + c_n))
        u' = a_j u                               without attention u' = u
        h  = (1 - u') h + u' n

    Args:
        units: int, width of the state.

    Call arguments:
        inputs: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events and prompts.
        attention: None (GRU), or ``[batch, length]`` (AUGRU).

    Returns:
        ``RecurrentStates``.

    At padding the state stays as it is, also between leading prompts and events; states at
    padding repeat the one before. A row of length 0 ends at zeros.

    Example:

    >>> result = AttentionGru(units=4)(tf.ones([2, 5, 3]), tf.ones([2, 5], tf.bool))
    >>> result.states.shape, result.last.shape
    (TensorShape([2, 5, 4]), TensorShape([2, 4]))

    Reference: DIEN, arXiv 1809.03672.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least("units", units, 1)
        self.units = units

    def build(self, input_shape: Any) -> None:
        """Makes kernels for update, reset and candidate, side by side."""
        width = 3 * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer="glorot_uniform"
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")
        self.recurrent_bias = self.add_weight(
            name="recurrent_bias", shape=(self.units,), initializer="zeros"
        )
        super().build(input_shape)

    def call(
        self, inputs: tf.Tensor, event_mask: tf.Tensor, attention: tf.Tensor | None = None
    ) -> RecurrentStates:
        """Returns the state after each position, and the last."""
        dtype = self.compute_dtype
        inputs = tf.cast(inputs, dtype)
        projected = tf.matmul(inputs, tf.cast(self.kernel, dtype)) + tf.cast(self.bias, dtype)
        # The share of the update that is let through: nothing at padding.
        passed = tf.cast(tf.cast(event_mask, tf.bool), dtype)
        if attention is not None:
            passed *= tf.cast(attention, dtype)
        # One step of padding in front: an array of no steps has no shape to stack.
        length = tf.shape(inputs)[1] + 1
        steps = _by_time(tf.pad(projected, [[0, 0], [1, 0], [0, 0]]), length)
        shares = _by_time(tf.pad(passed, [[0, 0], [1, 0]])[..., None], length)
        recurrent_kernel = tf.cast(self.recurrent_kernel, dtype)
        recurrent_bias = tf.cast(self.recurrent_bias, dtype)

        def step(
            position: tf.Tensor, state: tf.Tensor, states: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            update, reset, candidate = tf.split(steps.read(position), 3, axis=-1)
            of_update, of_reset, of_candidate = tf.split(
                tf.matmul(state, recurrent_kernel), 3, axis=-1
            )
            update = tf.sigmoid(update + of_update) * shares.read(position)
            reset = tf.sigmoid(reset + of_reset)
            candidate = tf.tanh(candidate + reset * (of_candidate + recurrent_bias))
            state += update * (candidate - state)
            return position + 1, state, states.write(position, state)

        start = tf.zeros([tf.shape(inputs)[0], self.units], dtype)
        states = tf.TensorArray(dtype, size=length, element_shape=[None, self.units])
        _, last, states = tf.while_loop(
            lambda position, *_: position < length,
            step,
            (tf.constant(0), start, states),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, self.units]),
                tf.TensorShape(None),
            ),
        )
        return RecurrentStates(states=tf.transpose(states.stack(), [1, 0, 2])[:, 1:], last=last)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "units": self.units}


def _by_time(values: tf.Tensor, length: tf.Tensor) -> tf.TensorArray:
    """Returns an array that is read by time step, whose gradient costs one step a step."""
    array = tf.TensorArray(values.dtype, size=length, element_shape=[None, values.shape[-1]])
    return array.unstack(tf.transpose(values, [1, 0, 2]))
