"""Learned position biases, added to attention logits."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.config import PositionKind
from models.layers.sublayers import most_recent, require_at_least, size_of
from models.layers.windows import PositionFactors


@keras.utils.register_keras_serializable(package="lengthwise")
class PositionBias(keras.layers.Layer):
    """Gives a bias to each position of a history, or to each pair of query and position.

    Formula::

        global:          logits[b, h, i, j] += table[j]
        query_specific:  logits[b, h, i, j] += table[i, j]

    The table starts at zero, is shared by heads, and belongs to one attention layer. It is
    right-aligned: its last column is the most recent event, so that the same last events get the
    same biases whatever the padding.

    Args:
        kind: ``PositionKind``.
        max_length: int, longest padded history, in events.
        queries: int, number of queries; one row serves all of them if ``kind`` is global.

    Call arguments:
        history: ``[batch, length, dim]``; only its length is used, at most ``max_length``.

    Returns:
        ``[1, 1, length]`` (global) or ``[1, queries, length]``, to be added to logits
        ``[batch, queries, length]``.

    Padding positions have biases too; the attention's mask removes them. Length 0 gives an empty
    bias.

    Example:

    >>> bias = PositionBias("query_specific", max_length=200, queries=12)
    >>> bias(tf.zeros([32, 50, 64])).shape
    TensorShape([1, 12, 50])

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(
        self, kind: PositionKind | str, *, max_length: int, queries: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("max_length", max_length, 1)
        require_at_least("queries", queries, 1)
        self.kind = PositionKind(kind)
        self.max_length = max_length
        self.queries = queries

    def build(self, input_shape: Any) -> None:
        """Makes the table, positions first so that slicing keeps rows together."""
        rows = self.queries if self.kind is PositionKind.QUERY_SPECIFIC else 1
        self.table = self.add_weight(
            name="table", shape=(self.max_length, rows), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, history: tf.Tensor) -> tf.Tensor:
        """Returns the biases of the positions present."""
        recent = most_recent(self.table, size_of(history, 1), self.name)  # [length, rows]
        return tf.transpose(recent)[None]  # [1, rows, length]

    def factors(self) -> PositionFactors:
        """Returns the biases of all ``max_length`` positions as a product."""
        table = tf.convert_to_tensor(self.table)
        if self.kind is PositionKind.QUERY_SPECIFIC:
            return PositionFactors(tf.eye(self.queries, dtype=table.dtype)[None], table)
        return PositionFactors(tf.ones([1, self.queries, 1], table.dtype), table)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "kind": self.kind.value,
            "max_length": self.max_length,
            "queries": self.queries,
        }
