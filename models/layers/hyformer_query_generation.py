"""Query generation of HyFormer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import repeat_for_candidates
from models.layers.sublayers import build_sublayer, require_at_least


@keras.utils.register_keras_serializable(package="lengthwise")
class HyformerQueryGeneration(keras.layers.Layer):
    """Makes the latent queries of a row from all its non-sequential features.

    Formula::

        f' = [f ; mean(S)]                            mean(S) with sequence pooling only
        Q  = LayerNorm(reshape(Dense(SiLU(Dense(f')), queries * dim), [queries, dim]))

    or, with ``separate``, a network Dense(SiLU(Dense(f'))) for each query.

    Args:
        queries: int, number of latent queries.
        dim: int, width of a query.
        pooled_dim: int, width of the pooled history, 0 without sequence pooling; default 0.
        hidden_ratio: int, hidden width over ``dim``, default 4.
        separate: bool, a network for each query instead of one for all; default False.

    Call arguments:
        features: ``[batch, features_dim]``, target, user, item and context embeddings.
        pooled_history: ``[batch, pooled_dim]``, masked mean of the history, or of each history
            side by side; None without sequence pooling. A user's row serves all of his
            candidates' rows.

    Returns:
        ``[batch, queries, dim]``.

    Padding has no part in a masked mean; a row of length 0 has a mean of zeros and its queries
    follow from its features alone.

    Example:

    >>> generation = HyformerQueryGeneration(queries=4, dim=8, pooled_dim=8)
    >>> generation(tf.zeros([2, 20]), tf.zeros([2, 8])).shape
    TensorShape([2, 4, 8])

    Reference: HyFormer, arXiv 2601.12681, in the form that LENS uses, arXiv 2605.25583.
    """

    def __init__(
        self,
        queries: int,
        dim: int,
        *,
        pooled_dim: int = 0,
        hidden_ratio: int = 4,
        separate: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("queries", queries), ("dim", dim), ("hidden_ratio", hidden_ratio)):
            require_at_least(name, value, 1)
        self.queries = queries
        self.dim = dim
        self.pooled_dim = pooled_dim
        self.hidden_ratio = hidden_ratio
        self.separate = separate

        networks = queries if separate else 1
        self.hidden_layer = keras.layers.Dense(
            networks * hidden_ratio * dim,
            activation="swish",
            name="hidden",
            dtype=self.dtype_policy,
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="norm", dtype=self.dtype_policy
        )

    def build(self, input_shape: Any) -> None:
        """Makes the two projections and the normalisation."""
        build_sublayer(self.hidden_layer, (None, input_shape[-1] + self.pooled_dim))
        build_sublayer(self.norm, (None, self.queries, self.dim))
        hidden = self.hidden_ratio * self.dim
        networks, outputs = (self.queries, 1) if self.separate else (1, self.queries)
        limit = (6 / (hidden + outputs * self.dim)) ** 0.5
        self.output_kernel = self.add_weight(
            name="output_kernel",
            shape=(networks, hidden, outputs * self.dim),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(self.queries, self.dim), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, features: tf.Tensor, pooled_history: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the queries of each row."""
        if (pooled_history is not None) != (self.pooled_dim > 0):
            raise ValueError(
                f"{self.name}: pooled_history belongs to a pooled_dim above 0, "
                f"found pooled_dim {self.pooled_dim}"
            )
        if pooled_history is not None:
            pooled = repeat_for_candidates(pooled_history, features)
            features = tf.concat([features, tf.cast(pooled, features.dtype)], axis=-1)
        hidden = self.hidden_layer(features)
        kernel = tf.cast(self.output_kernel, hidden.dtype)
        if self.separate:
            parts = tf.reshape(hidden, [-1, self.queries, self.hidden_ratio * self.dim])
            queries = tf.einsum("bni,nio->bno", parts, kernel)
        else:
            queries = tf.matmul(hidden, kernel[0])
        queries = tf.reshape(queries, [-1, self.queries, self.dim])  # [batch, queries, dim]
        return self.norm(queries + tf.cast(self.output_bias, queries.dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "queries": self.queries,
            "dim": self.dim,
            "pooled_dim": self.pooled_dim,
            "hidden_ratio": self.hidden_ratio,
            "separate": self.separate,
        }
