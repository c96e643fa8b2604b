"""The two-stage attention of TWIN, both stages with the same weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.attention_by_head import fold_kernel, project_heads
from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.config import LengthModulation, conditioning_dim, plain, read_modulation
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.retrieval import is_top_k
from models.layers.sublayers import build_sublayer, require_argument, require_at_least
from models.layers.windows import MASKED_LOGIT, has_windows


@keras.utils.register_keras_serializable(package="lengthwise")
class TopKAttention(keras.layers.Layer):
    """Attends to the best events of each head, chosen by the attention's own scores.

    Formula, for each head::

        score_j = (t W_q) . (s_j W_k) / sqrt(head_dim)
        top     = the ``count`` events of highest score
        out     = concat_heads(softmax_{j in top}(score_j / tau) s_j W_v) W_o

    Neither keys nor values are formed: events are scored by ``(t W_q W_k^T) . s_j``, and W_v
    is applied to their weighted sum. The chosen ones are marked and read where they stand; a list
    of ``heads * count`` of them would be copied, which costs more than the few products of an
    event. With ``shared_history`` keys and values are formed, once for all candidates of a user.
    The choice has no gradient. Of equal scores the more recent event wins.

    With a ``LengthModulation`` the query is ``[t ; e] W_q'``, the added columns starting at zero,
    and tau is a ``LengthTemperature``; else tau is 1. The length columns of the keys add the same
    number to all scores, which changes neither the choice nor the softmax, and are left out.

    Args:
        attention_dim: int, width of all heads together.
        heads: int, must divide ``attention_dim``; default 1.
        count: int, events for each head, default 50.
        modulation: ``LengthModulation`` or None.

    Call arguments:
        target: ``[rows, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of a user
            in consecutive rows.
        history: ``[batch, length, dim]``, without prompts.
        event_mask: ``[batch, length]``, true at real events; or windows ``[batch, candidates,
            length]``, the events that each candidate sees.
        prompts: None, or ``[batch, prompts, dim]``; always read, beside the chosen events.
        length: ``[batch]``, events in the user's history; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.
        shared_history: whether users have many candidates, which decides the order of products.

    Returns:
        ``[rows, dim]``.

    Padding is never chosen. A row of length 0 reads its prompts if there are any and else gives
    zeros.

    Example:

    >>> attention = TopKAttention(attention_dim=8, heads=2, count=3)
    >>> attention(tf.ones([2, 6]), tf.ones([2, 5, 6]), tf.ones([2, 5], tf.bool)).shape
    TensorShape([2, 6])

    Reference: TWIN, arXiv 2302.02352; prompts and modulation: LAIN, arXiv 2601.19142.
    """

    def __init__(
        self,
        attention_dim: int,
        heads: int = 1,
        count: int = 50,
        modulation: LengthModulation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("attention_dim", attention_dim), ("heads", heads), ("count", count)):
            require_at_least(name, value, 1)
        if attention_dim % heads:
            raise ValueError(f"heads {heads}: a divisor of attention_dim {attention_dim} expected")
        self.attention_dim = attention_dim
        self.heads = heads
        self.count = count
        self.modulation = read_modulation(modulation)
        self.head_dim = attention_dim // heads
        self.length_dim = conditioning_dim(self.modulation)
        self.temperature = make_temperature(self.modulation)

    def build(self, input_shape: Any) -> None:
        """Makes the projections, the added columns of W_q and the temperature's scalars."""
        dim = input_shape[-1]
        for name, shape in (
            ("query_kernel", (dim, self.attention_dim)),
            ("key_kernel", (dim, self.attention_dim)),
            ("value_kernel", (dim, self.attention_dim)),
            ("output_kernel", (self.attention_dim, dim)),
        ):
            weight = self.add_weight(name=name, shape=shape, initializer="glorot_uniform")
            setattr(self, name, weight)
        if self.length_dim:
            self.length_kernel = self.add_weight(
                name="length_kernel",
                shape=(self.length_dim, self.attention_dim),
                initializer="zeros",
            )
        if self.temperature is not None:
            build_sublayer(self.temperature, (None,))
        super().build(input_shape)

    def call(
        self,
        target: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        prompts: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        shared_history: bool = False,
    ) -> tf.Tensor:
        """Returns what the target reads from the best events."""
        history = tf.cast(history, self.compute_dtype)
        if shared_history and not has_windows(event_mask):
            query = self._query(target, length_vector)
            return self._read_by_keys(query, history, event_mask, prompts, length)
        folded = group_by_user(self._fold(target, length_vector), tf.shape(history)[0])
        scores = _products(folded, history)
        read = self._choose(scores, event_mask)
        logits, slots = [scores], [history]
        if prompts is not None:
            slots = [tf.cast(prompts, history.dtype), history]
            logits = [_products(folded, slots[0]), scores]
            read = tf.concat([tf.ones(tf.shape(logits[0]), tf.bool), read], axis=-1)
        scaled = divide_by_temperature(
            tf.concat(logits, axis=-1), self.temperature, length, self.name
        )
        weights = tf.cast(masked_softmax(scaled, read), history.dtype)
        sizes = [tf.shape(part)[1] for part in slots]
        pooled = tf.add_n(
            [
                _weighted_sums(part_weights, part)
                for part_weights, part in zip(tf.split(weights, sizes, axis=-1), slots, strict=True)
            ]
        )
        kernel = tf.cast(self.value_kernel, pooled.dtype)
        merged = project_heads(ungroup(pooled)[:, :, None], kernel)[:, 0]
        return tf.matmul(merged, tf.cast(self.output_kernel, merged.dtype))

    def chosen(
        self,
        target: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        length_vector: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Tells which events each head reads, bool ``[batch, candidates, heads, length]``."""
        history = tf.cast(history, self.compute_dtype)
        folded = group_by_user(self._fold(target, length_vector), tf.shape(history)[0])
        return self._choose(_products(folded, history), event_mask)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "attention_dim": self.attention_dim,
            "heads": self.heads,
            "count": self.count,
            "modulation": plain(self.modulation),
        }

    def _read_by_keys(
        self,
        query: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        prompts: tf.Tensor | None,
        length: tf.Tensor | None,
    ) -> tf.Tensor:
        """Reads the best events with keys and values formed once a user, ``[rows, dim]``.

        Heads are computed side by side: finding the best is done by one core each time.
        """
        slots, count = history, 0
        if prompts is not None:
            slots = tf.concat([tf.cast(prompts, history.dtype), history], axis=1)
            count = prompts.shape[1]
        keys, values = (
            tf.matmul(slots, tf.cast(kernel, slots.dtype))
            for kernel in (self.key_kernel, self.value_kernel)
        )
        real = tf.cast(event_mask, tf.bool)[:, None]

        def read_head(query: tf.Tensor, keys: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            scores = tf.matmul(query, keys, transpose_b=True)  # [users, candidates, slots]
            read = is_top_k(scores[..., count:], real, self.count)
            if count:
                read = tf.pad(read, [[0, 0], [0, 0], [count, 0]], constant_values=True)
            logits = divide_by_temperature(scores, self.temperature, length, self.name)
            weights = tf.nn.softmax(tf.where(read, logits, MASKED_LOGIT), axis=-1)
            return tf.matmul(tf.cast(weights, values.dtype), values)

        queries = group_by_user(query, tf.shape(history)[0])
        heads = zip(
            *(tf.split(part, self.heads, axis=-1) for part in (queries, keys, values)), strict=True
        )
        found = tf.concat([read_head(*head) for head in heads], axis=-1)
        if prompts is None:
            found *= tf.cast(tf.reduce_any(real, axis=-1, keepdims=True), found.dtype)
        return tf.matmul(ungroup(found), tf.cast(self.output_kernel, found.dtype))

    def _query(self, target: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        """Returns the scaled queries ``[rows, attention_dim]``."""
        target = tf.cast(target, self.compute_dtype)
        query = tf.matmul(target, tf.cast(self.query_kernel, target.dtype))
        if self.length_dim:
            require_argument(self.name, "length_vector", length_vector, "query_key_conditioning")
            vector = tf.cast(length_vector, target.dtype)
            shift = tf.matmul(vector, tf.cast(self.length_kernel, target.dtype))
            query += repeat_for_candidates(shift, target)
        return query * self.head_dim**-0.5

    def _fold(self, target: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        """Returns ``[rows, heads, dim]``, whose product with an event is its score."""
        query = self._query(target, length_vector)
        return fold_kernel(query[:, None], tf.cast(self.key_kernel, query.dtype), self.heads)[
            :, :, 0
        ]

    def _choose(self, scores: tf.Tensor, event_mask: tf.Tensor) -> tf.Tensor:
        mask = tf.cast(event_mask, tf.bool)
        seen = mask[:, :, None] if has_windows(mask) else mask[:, None, None]
        return is_top_k(scores, seen, self.count)


def _products(folded: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Returns ``[users, candidates, heads, n]`` of ``[users, candidates, heads, dim]``."""
    sizes = tf.shape(folded)
    rows = tf.reshape(folded, [sizes[0], sizes[1] * sizes[2], sizes[3]])
    # A plain product of matrices, for which einsum takes a third longer.
    scores = tf.matmul(rows, events, transpose_b=True)
    return tf.reshape(scores, [sizes[0], sizes[1], sizes[2], tf.shape(events)[1]])


def _weighted_sums(weights: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
    """Returns ``[users, candidates, heads, dim]`` of weights ``[users, candidates, heads, n]``."""
    sizes = tf.shape(weights)
    rows = tf.reshape(weights, [sizes[0], sizes[1] * sizes[2], sizes[3]])
    pooled = tf.matmul(rows, events)
    return tf.reshape(pooled, [sizes[0], sizes[1], sizes[2], events.shape[-1]])
