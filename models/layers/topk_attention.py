"""The two-stage attention of TWIN, both stages with the same weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.chosen_events import merge_heads, split_heads
from models.layers.config import LengthModulation, conditioning_dim, plain, read_modulation
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.retrieval import gather_events, is_top_k, top_k_events
from models.layers.sublayers import build_sublayer, require_argument, require_at_least
from models.layers.windows import MASKED_LOGIT, has_windows


@keras.utils.register_keras_serializable(package="lengthwise")
class TopKAttention(keras.layers.Layer):
    """Attends to the best events of each head, chosen by the attention's own scores.

    Formula, for each head::

        score_j = (t W_q) . (s_j W_k) / sqrt(head_dim)
        top     = the ``count`` events of highest score
        out     = concat_heads(softmax_{j in top}(score_j / tau) s_j W_v) W_o

    Done in two passes: all events are scored without gradient and without forming keys,
    ``(t W_q W_k^T) . s_j``; only the chosen ones are read and scored again with gradient. With
    ``shared_history`` keys and values are formed, once for all candidates of a user. Of equal
    scores the more recent event wins.

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
        positions, real = self._choose(folded, history, event_mask)
        events = gather_events(history, positions)  # [batch, candidates, heads, count, dim]
        logits = tf.einsum("uchd,uchkd->uchk", folded, events)
        if prompts is not None:
            prompts = tf.cast(prompts, history.dtype)
            of_prompts = tf.einsum("uchd,upd->uchp", folded, prompts)
            logits = tf.concat([of_prompts, logits], axis=-1)
            real = tf.concat([tf.ones(tf.shape(of_prompts), tf.bool), real], axis=-1)
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        weights = tf.cast(masked_softmax(logits, real), history.dtype)
        if prompts is not None:
            size = prompts.shape[1]
            pooled = tf.einsum("uchp,upd->uchd", weights[..., :size], prompts)
            pooled += tf.einsum("uchk,uchkd->uchd", weights[..., size:], events)
        else:
            pooled = tf.einsum("uchk,uchkd->uchd", weights, events)
        values = tf.einsum("rhd,dhe->rhe", ungroup(pooled), self._by_head(self.value_kernel))
        merged = tf.reshape(values, [-1, self.attention_dim])
        return tf.matmul(merged, tf.cast(self.output_kernel, merged.dtype))

    def chosen(
        self,
        target: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        length_vector: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns positions ``[batch, candidates, heads, count]`` and whether each is real."""
        folded = group_by_user(self._fold(target, length_vector), tf.shape(history)[0])
        return self._choose(folded, history, event_mask)

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
        """Reads the best events with keys and values formed once a user, ``[rows, dim]``."""
        query = split_heads(group_by_user(query, tf.shape(history)[0]), self.heads)
        slots, count = history, 0
        if prompts is not None:
            slots = tf.concat([tf.cast(prompts, history.dtype), history], axis=1)
            count = prompts.shape[1]
        keys, values = (
            split_heads(tf.matmul(slots, tf.cast(kernel, slots.dtype)), self.heads)
            for kernel in (self.key_kernel, self.value_kernel)
        )
        scores = tf.matmul(query, keys, transpose_b=True)  # [users, heads, candidates, slots]
        real = tf.cast(event_mask, tf.bool)[:, None, None]
        read = is_top_k(scores[..., count:], real, self.count)
        has_slots = tf.reduce_any(real, axis=-1, keepdims=True)
        if count:
            read = tf.pad(read, [[0, 0], [0, 0], [0, 0], [count, 0]], constant_values=True)
            has_slots = tf.ones_like(has_slots)
        logits = divide_by_temperature(scores, self.temperature, length, self.name)
        weights = tf.nn.softmax(tf.where(read, logits, MASKED_LOGIT), axis=-1)
        found = tf.matmul(tf.cast(weights, values.dtype), values)
        merged = merge_heads(found * tf.cast(has_slots, found.dtype))
        return tf.matmul(merged, tf.cast(self.output_kernel, merged.dtype))

    def _query(self, target: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        """Returns the scaled queries ``[rows, attention_dim]``."""
        target = tf.cast(target, self.compute_dtype)
        query = tf.matmul(target, tf.cast(self.query_kernel, target.dtype))
        if self.length_dim:
            require_argument(self.name, "length_vector", length_vector, "query_key_conditioning")
            vector = tf.cast(length_vector, target.dtype)
            shift = tf.matmul(vector, tf.cast(self.length_kernel, target.dtype))
            query += repeat_for_candidates(shift, target)
        return query / self.head_dim**0.5

    def _fold(self, target: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        """Returns ``[rows, heads, dim]``, whose product with an event is its score."""
        query = self._query(target, length_vector)
        query = tf.reshape(query, [-1, self.heads, self.head_dim])
        return tf.einsum("rhe,dhe->rhd", query, self._by_head(self.key_kernel))

    def _choose(
        self, folded: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        scores = tf.einsum("uchd,uld->uchl", tf.stop_gradient(folded), tf.stop_gradient(history))
        mask = tf.cast(event_mask, tf.bool)
        seen = mask[:, :, None] if has_windows(mask) else mask[:, None, None]
        return top_k_events(scores, seen, self.count)

    def _by_head(self, kernel: Any) -> tf.Tensor:
        kernel = tf.cast(kernel, self.compute_dtype)
        return tf.reshape(kernel, [-1, self.heads, self.head_dim])
