"""The target-conditioned position bias (TCPB) of LENS."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.sublayers import (
    build_sublayer,
    most_recent,
    product_of_rows,
    require_at_least,
    size_of,
)
from models.layers.windows import PositionFactors


@keras.utils.register_keras_serializable(package="lengthwise")
class TargetPositionBias(keras.layers.Layer):
    """Gives each query a position curve that depends on the target, of low rank.

    Formula::

        M(c)    = reshape(c W, [queries, rank])               W starts at zero, no bias
        B[i, j] = < M(c)_i , P_j >                            P in [max_length, rank]
        logits[b, h, i, j] += B(c_b)[i, j]

    P starts as normal noise: with both factors at zero neither would get a gradient. B is zero at
    the start. P is right-aligned, its last row the most recent event. One layer of 12 queries,
    condition 64, rank 8 and 200 positions has 6,144 + 1,600 weights, four layers 30,976.

    Args:
        queries: int, number of queries.
        max_length: int, longest padded history, in events.
        rank: int, default 8.
        deviation: float, standard deviation of P at the start, default 0.02.

    Call arguments:
        condition: ``[rows, condition_dim]``, one for each candidate.
        history: ``[batch, length, dim]``; only its length is used, at most ``max_length``.

    Returns:
        ``[rows, queries, length]``, to be added to attention logits.

    Padding positions have biases too; the attention's mask removes them. Length 0 gives an empty
    bias.

    Example:

    >>> layer = TargetPositionBias(queries=12, max_length=200)
    >>> layer(tf.ones([2, 64]), tf.zeros([2, 50, 64])).shape
    TensorShape([2, 12, 50])

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(
        self,
        queries: int,
        max_length: int,
        rank: int = 8,
        deviation: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("queries", queries), ("max_length", max_length), ("rank", rank)):
            require_at_least(name, value, 1)
        self.queries = queries
        self.max_length = max_length
        self.rank = rank
        self.deviation = deviation
        self.project = keras.layers.Dense(
            queries * rank,
            use_bias=False,
            kernel_initializer="zeros",
            name="project",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the zero projection and the position table."""
        build_sublayer(self.project, (None, input_shape[-1]))
        self.table = self.add_weight(
            name="table",
            shape=(self.max_length, self.rank),
            initializer=keras.initializers.RandomNormal(stddev=self.deviation),
        )
        super().build(input_shape)

    def call(self, condition: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Returns the biases of the positions present."""
        multipliers = self._multipliers(condition)
        positions = most_recent(self.table, size_of(history, 1), self.name)  # [length, rank]
        return product_of_rows(multipliers, positions, transpose=True)

    def factors(self, condition: tf.Tensor) -> PositionFactors:
        """Returns the biases of all ``max_length`` positions as a product."""
        return PositionFactors(self._multipliers(condition), tf.convert_to_tensor(self.table))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "queries": self.queries,
            "max_length": self.max_length,
            "rank": self.rank,
            "deviation": self.deviation,
        }

    def _multipliers(self, condition: tf.Tensor) -> tf.Tensor:
        return tf.reshape(self.project(condition), [-1, self.queries, self.rank])
