"""The target-conditioned query gate (TCQG) of LENS."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.sublayers import build_sublayer, require_at_least


@keras.utils.register_keras_serializable(package="lengthwise")
class TargetQueryGate(keras.layers.Layer):
    """Scales each entry of the initial queries by what the target asks for.

    Formula::

        g(c) = 2 * sigmoid(reshape(c W, [queries, dim]))        W starts at zero, no bias
        Q <- Q * g(c)

    At the start the gate is exactly one. It has ``queries * dim * condition_dim`` weights
    (12 * 64 * 64 = 49,152).

    Args:
        condition_dim: int, width of the condition vector.

    Call arguments:
        queries: ``[batch, queries, dim]``.
        condition: ``[batch, condition_dim]``.

    Returns:
        the gated queries, of the same shape.

    Padding and length play no part here beyond what the condition vector holds.

    Example:

    >>> gate = TargetQueryGate(condition_dim=8)
    >>> gate(tf.ones([2, 3, 4]), tf.ones([2, 8])).numpy().min()
    np.float32(1.0)

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(self, condition_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least("condition_dim", condition_dim, 1)
        self.condition_dim = condition_dim

    def build(self, input_shape: Any) -> None:
        """Makes the zero projection."""
        self.query_shape = [int(size) for size in input_shape[-2:]]
        self.project = keras.layers.Dense(
            self.query_shape[0] * self.query_shape[1],
            use_bias=False,
            kernel_initializer="zeros",
            name="project",
            dtype=self.dtype_policy,
        )
        build_sublayer(self.project, (None, self.condition_dim))
        super().build(input_shape)

    def gate(self, condition: tf.Tensor) -> tf.Tensor:
        """Returns the gate ``[batch, queries, dim]``, for use and for diagnosis."""
        return 2.0 * tf.sigmoid(tf.reshape(self.project(condition), [-1, *self.query_shape]))

    def call(self, queries: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
        """Returns the gated queries."""
        return queries * tf.cast(self.gate(condition), queries.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "condition_dim": self.condition_dim}
