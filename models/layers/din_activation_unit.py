"""DIN's activation unit: how relevant each event of a history is to the target item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="lengthwise")
class DinActivationUnit(keras.layers.Layer):
    """Scores each event against the target with a small network.

    With target t and event s (arXiv 1706.06978, section 4.3, and with the difference that
    public implementations add)::

        logit = MLP([t, s, t - s, t * s])

    The first layer is computed without forming the concatenation, which would be four times
    as wide as the history. With its weights cut in four, W1 to W4::

        W [t, s, t - s, t * s] = (W1 + W3) t + (W2 - W3) s + W4 (t * s)

    It is exact; (W1 + W3) t is computed once a row and not once an event.

    Args:
        hidden_units: widths of the hidden layers, each followed by a PReLU.

    Call arguments:
        target: ``[rows, dim]``.
        events: ``[rows, length, dim]``, of the same width. Padding is scored like any event,
            from its own values alone: masking is left to the caller.

    Returns:
        Logits ``[rows, length]``; length may be 0.

    Example:

    >>> unit = DinActivationUnit(hidden_units=(64,))
    >>> unit(tf.ones([2, 8]), tf.ones([2, 5, 8])).shape
    TensorShape([2, 5])
    """

    def __init__(self, hidden_units: Sequence[int] = (64,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise ValueError(f"hidden_units {list(hidden_units)}: one or more widths expected")
        self.activations = [
            keras.layers.PReLU(
                alpha_initializer=keras.initializers.Constant(0.25),
                shared_axes=[1],
                name=f"prelu_{index}",
            )
            for index in range(len(self.hidden_units))
        ]
        self.later_layers = [
            keras.layers.Dense(units, name=f"dense_{index + 1}")
            for index, units in enumerate((*self.hidden_units[1:], 1))
        ]

    def build(self, input_shape: Any) -> None:
        """Makes the weights; ``input_shape`` is that of the target."""
        dim = int(input_shape[-1])
        units = self.hidden_units[0]
        # One matrix, so that it starts like the plain form's; rows of t, s, t - s, t * s.
        self.kernel = self.add_weight(
            name="kernel", shape=(4 * dim, units), initializer="glorot_uniform", trainable=True
        )
        self.bias = self.add_weight(
            name="bias", shape=(units,), initializer="zeros", trainable=True
        )
        widths = self.hidden_units
        for width, activation, dense in zip(
            widths, self.activations, self.later_layers, strict=True
        ):
            activation.build((None, None, width))
            dense.build((None, None, width))
        super().build(input_shape)

    def call(self, target: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
        """Scores events against the target; see the class."""
        # Keras 2 casts the first argument of a call only.
        target, events, kernel, bias = (
            tf.cast(tensor, self.compute_dtype)
            for tensor in (target, events, self.kernel, self.bias)
        )
        of_target, of_event, of_difference, of_product = tf.split(kernel, 4, axis=0)  # [dim, units]
        by_target = tf.matmul(target, of_target + of_difference) + bias
        by_event = tf.einsum("rld,du->rlu", events, of_event - of_difference)
        product = target[:, tf.newaxis, :] * events
        by_product = tf.einsum("rld,du->rlu", product, of_product)
        hidden = by_target[:, tf.newaxis, :] + by_event + by_product  # [rows, length, units]
        for activation, dense in zip(self.activations, self.later_layers, strict=True):
            hidden = dense(activation(hidden))
        return tf.squeeze(hidden, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "hidden_units": list(self.hidden_units)}
