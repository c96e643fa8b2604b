"""Absolute position embeddings, added to the events of a history."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.sublayers import most_recent, require_at_least, size_of


@keras.utils.register_keras_serializable(package="lengthwise")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector to each position of a history, before its keys and values.

    Formula::

        S_j <- S_j + E[j]

    Right-aligned: the last row of E belongs to the most recent event, whatever the padding.

    Args:
        max_length: int, longest padded history, in events.
        deviation: float, standard deviation of E at the start, default 0.02.

    Call arguments:
        history: ``[batch, length, dim]``, length at most ``max_length``.

    Returns:
        ``[batch, length, dim]``.

    Padding gets a vector as well; whoever reads the result has to mask it. Length 0 passes through.

    Example:

    >>> PositionEmbedding(max_length=200)(tf.zeros([2, 50, 8])).shape
    TensorShape([2, 50, 8])

    Reference: the absolute position baseline of LENS, arXiv 2605.25583.
    """

    def __init__(self, max_length: int, deviation: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least("max_length", max_length, 1)
        self.max_length = max_length
        self.deviation = deviation

    def build(self, input_shape: Any) -> None:
        """Makes the table."""
        self.table = self.add_weight(
            name="table",
            shape=(self.max_length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=self.deviation),
        )
        super().build(input_shape)

    def call(self, history: tf.Tensor) -> tf.Tensor:
        """Returns the history with its positions added."""
        recent = most_recent(self.table, size_of(history, 1), self.name)  # [length, dim]
        return history + tf.cast(recent, history.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "deviation": self.deviation,
        }
