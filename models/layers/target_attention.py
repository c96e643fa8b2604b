"""Multi-head attention of target-side queries to a history."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.layers.attention_by_head import (
    attend_by_head,
    attend_to_events,
    attend_windows,
    fold_kernel,
    project_heads,
)
from models.layers.candidates import group_by_user, merge_queries, split_queries
from models.layers.chosen_events import merge_heads, read_chosen, score_chosen, split_heads
from models.layers.length_temperature import LengthTemperature, divide_by_temperature
from models.layers.masking import masked_softmax
from models.layers.sublayers import product_of_rows, require_at_least
from models.layers.windows import MASKED_LOGIT, has_windows


class EncodedHistory(NamedTuple):
    """A history's part of an attention, to be computed once for all candidates of a user.

    Attributes:
        keys: ``[batch, length, attention_dim]``.
        values: ``[batch, length, attention_dim]``.
    """

    keys: tf.Tensor
    values: tf.Tensor


@keras.utils.register_keras_serializable(package="lengthwise")
class TargetAttention(keras.layers.Layer):
    """Lets queries, such as the target item, attend to a user's history with several heads.

    Formula, for each head::

        q = Q W_q        k = S W_k        v = S W_v
        out = concat_heads(softmax_j(q . k_j / sqrt(head_dim) + bias_j) v_j) W_o

    No projection has a bias. Where queries are few, keys and values are never formed:
    ``q . (S W_k) = (q W_k^T) . S`` and ``p (S W_v) = (p S) W_v``.

    Args:
        attention_dim: int, width of all heads together.
        heads: int, must divide ``attention_dim``; default 1.
        history_dim: int or None, width of an event; as wide as a query if None.
        output_dim: int or None, width of the result; as wide as a query if None.

    Call arguments:
        query: ``[batch, queries, dim]``; or ``[batch * candidates, queries, dim]``, the candidates
            of a user in consecutive rows.
        history: ``[batch, length, history_dim]``, or what ``encode_history`` made of it.
        event_mask: ``[batch, length]``, true at real events; or windows ``[batch, candidates,
            length]``, the events that each candidate sees, without a temperature.
        bias: None, or ``[rows or 1, queries, bias_length]``, added to the logits of all heads.
            Right-aligned: where it is shorter than the history (prompts stand in front), the
            first positions get 0.

    Returns:
        ``[batch * candidates, queries, output_dim]``.

    Padding has weight exactly 0. A row of length 0 gives zeros.

    Example:

    >>> attention = TargetAttention(attention_dim=8, heads=2)
    >>> attention(tf.ones([2, 1, 6]), tf.ones([2, 5, 6]), tf.ones([2, 5], tf.bool)).shape
    TensorShape([2, 1, 6])

    Reference: the target attention of TWIN, arXiv 2302.02352, and of SIM, arXiv 2006.05639.
    """

    def __init__(
        self,
        attention_dim: int,
        heads: int = 1,
        *,
        history_dim: int | None = None,
        output_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("attention_dim", attention_dim, 1)
        require_at_least("heads", heads, 1)
        if attention_dim % heads:
            raise ValueError(f"heads {heads}: a divisor of attention_dim {attention_dim} expected")
        self.attention_dim = attention_dim
        self.heads = heads
        self.history_dim = history_dim
        self.output_dim = output_dim
        self.head_dim = attention_dim // heads
        self.temperature: LengthTemperature | None = None  # of length-modulated attention

    def build(self, input_shape: Any) -> None:
        """Makes the four projections."""
        query_dim = input_shape[-1]
        history_dim = self.history_dim or query_dim
        output_dim = self.output_dim or query_dim
        self.query_kernel = self._kernel("query_kernel", query_dim, self.attention_dim)
        self.key_kernel = self._kernel("key_kernel", history_dim, self.attention_dim)
        self.value_kernel = self._kernel("value_kernel", history_dim, self.attention_dim)
        self.output_kernel = self._kernel("output_kernel", self.attention_dim, output_dim)
        super().build(input_shape)

    def encode_history(self, history: tf.Tensor) -> EncodedHistory:
        """Returns keys and values of ``history [batch, length, history_dim]``."""
        history = self._cast(history)
        return EncodedHistory(
            keys=tf.matmul(history, self._cast(self.key_kernel)),
            values=tf.matmul(history, self._cast(self.value_kernel)),
        )

    def call(
        self,
        query: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns what the queries read from the history."""
        return self._attend(self.project_query(query), history, event_mask, bias)

    def attention_weights(
        self,
        query: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the weights ``[batch, heads, candidates * queries, length]``, for diagnosis."""
        return self._weights(self.project_query(query), history, event_mask, bias)

    def project_query(self, query: tf.Tensor) -> tf.Tensor:
        """Returns the scaled queries ``[rows, queries, attention_dim]``."""
        query = self._cast(query)
        return product_of_rows(query, self.query_kernel) * self.head_dim**-0.5

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "attention_dim": self.attention_dim,
            "heads": self.heads,
            "history_dim": self.history_dim,
            "output_dim": self.output_dim,
        }

    def _attend_to_chosen(
        self,
        projected: tf.Tensor,
        history: EncodedHistory,
        positions: tf.Tensor,
        real: tf.Tensor,
        length: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns what a query a row reads from positions of its own, ``[rows, output_dim]``."""
        users = tf.shape(history.keys)[0]
        query = split_heads(group_by_user(projected, users), self.heads)
        keys, values = (split_heads(part, self.heads) for part in history)
        positions, real = (group_by_user(part, users)[:, None] for part in (positions, real))
        shape = tf.concat([tf.shape(query)[:3], tf.shape(positions)[3:]], axis=0)
        positions = tf.broadcast_to(positions, shape)  # [users, heads, candidates, count]
        logits = score_chosen(query, keys, positions)
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        weights = tf.cast(masked_softmax(logits, real), self.compute_dtype)
        read = merge_heads(read_chosen(weights, values, positions))
        return tf.matmul(read, self._cast(self.output_kernel))

    def _attend(
        self,
        projected: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None,
        length: tf.Tensor | None = None,
    ) -> tf.Tensor:
        if has_windows(event_mask):
            if self.temperature is not None:
                raise ValueError(
                    f"{self.name}: event_mask [batch, length] is accepted with a temperature, "
                    "found windows [batch, candidates, length]"
                )
            merged = self._read_windows(projected, history, event_mask, bias)
        else:
            merged = self._read_events(projected, history, event_mask, bias, length)
        out = tf.matmul(merged, self._cast(self.output_kernel))
        return split_queries(out, projected.shape[1])

    def _read_events(
        self,
        projected: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None,
        length: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns what all heads read, ``[batch, candidates * queries, attention_dim]``.

        Queries and biases are divided by the temperature instead of the far larger logits.
        """
        temperature = (self.temperature, length, self.name)
        real = tf.cast(event_mask, tf.bool)
        queries = merge_queries(projected, tf.shape(real)[0])
        added = tf.where(real, 0.0, MASKED_LOGIT)[:, tf.newaxis]
        if bias is not None:
            aligned = _align_bias(tf.cast(bias, tf.float32), queries, real, projected.shape[1])
            added += divide_by_temperature(aligned, *temperature)
        queries = tf.cast(divide_by_temperature(queries, *temperature), projected.dtype)
        if not isinstance(history, EncodedHistory) and self._absorbs(history, projected.shape[1]):
            read = self._read_unprojected(queries, self._cast(history), added)
        else:
            if not isinstance(history, EncodedHistory):
                history = self.encode_history(history)
            read = attend_by_head(queries, *history, added, heads=self.heads)
        has_events = tf.reduce_any(real, axis=1)[:, tf.newaxis, tf.newaxis]
        return read * tf.cast(has_events, read.dtype)

    def _read_unprojected(
        self, queries: tf.Tensor, history: tf.Tensor, added: tf.Tensor
    ) -> tf.Tensor:
        """Reads events without forming their keys and values."""
        folded = self._fold(queries)  # [batch, heads, queries, history_dim]
        batch, _, count, width = _sizes(folded, 4)
        rows = tf.reshape(folded, [batch, self.heads * count, width])
        pooled = attend_to_events(rows, history, added, heads=self.heads)
        pooled = tf.reshape(pooled, [batch, self.heads, count, width])
        return project_heads(pooled, self._cast(self.value_kernel))

    def _fold(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns ``[batch, heads, queries, history_dim]``; times an event it is its score."""
        return fold_kernel(queries, self._cast(self.key_kernel), self.heads)

    def _weights(
        self,
        projected: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None,
        length: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the weights ``[batch, heads, candidates * queries, length]``."""
        merged = merge_queries(projected, tf.shape(event_mask)[0])
        if isinstance(history, EncodedHistory):
            logits = tf.einsum("bqhe,blhe->bhql", self._split(merged), self._split(history.keys))
        else:
            logits = tf.einsum("bhqd,bld->bhql", self._fold(merged), self._cast(history))
        logits = tf.cast(logits, tf.float32)
        if bias is not None:
            bias = tf.cast(bias, tf.float32)
            logits += _align_bias(bias, merged, event_mask, projected.shape[1])[:, None]
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        return masked_softmax(logits, tf.cast(event_mask, tf.bool)[:, None, None, :])

    def _read_windows(
        self,
        projected: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        windows: tf.Tensor,
        bias: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns what all heads read, ``[batch, candidates * queries, attention_dim]``."""
        if not isinstance(history, EncodedHistory):
            history = self.encode_history(history)
        queries = merge_queries(projected, tf.shape(windows)[0])
        return attend_windows(
            queries, history.keys, history.values, windows, bias, heads=self.heads
        )

    def _absorbs(self, history: tf.Tensor, queries: int) -> bool:
        """Tells whether folding W_k into the queries takes fewer products for each event."""
        width = history.shape[-1]
        return self.heads * queries * width < (width + queries) * self.attention_dim

    def _split(self, tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(
            tensor, [*_sizes(tensor, tensor.shape.rank - 1), self.heads, self.head_dim]
        )

    def _cast(self, tensor: Any) -> tf.Tensor:
        # Keras 2 casts the first argument of a call only, and no weight outside of a call.
        return tf.cast(tensor, self.compute_dtype)

    def _kernel(self, name: str, rows: int, columns: int) -> Any:
        return self.add_weight(name=name, shape=(rows, columns), initializer="glorot_uniform")


def _align_bias(
    bias: tf.Tensor, queries: tf.Tensor, event_mask: tf.Tensor, count: int
) -> tf.Tensor:
    """Returns ``[batch or 1, candidates * count, length]`` from ``[rows or 1, count, ...]``.

    Args:
        bias: of the last positions.
        queries: ``[batch, candidates * count, ...]``.
        event_mask: ``[batch, length]``.
        count: queries of a candidate.
    """
    users, length = tf.unstack(tf.shape(event_mask))
    bias = tf.pad(bias, [[0, 0], [0, 0], [length - tf.shape(bias)[-1], 0]])
    if bias.shape[0] == 1:
        per_query = tf.broadcast_to(bias, [1, count, length])
        return tf.tile(per_query, [1, tf.shape(queries)[1] // count, 1])
    return merge_queries(bias, users)


def _sizes(tensor: tf.Tensor, axes: int) -> list[Any]:
    static = tensor.shape[:axes]
    dynamic = tf.shape(tensor)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]
