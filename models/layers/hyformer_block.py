"""One layer of HyFormer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.config import HyformerBlockConfig, plain, read
from models.layers.length_modulated_attention import LengthModulatedAttention
from models.layers.per_token_feed_forward import PerTokenFeedForward
from models.layers.sublayers import build_sublayer
from models.layers.target_attention import EncodedHistory
from models.layers.token_mixing import TokenMixing


@keras.utils.register_keras_serializable(package="lengthwise")
class HyformerBlock(keras.layers.Layer):
    """Lets latent queries read the history, then mixes them with each other and side fields.

    Formula::

        H <- S, or S + SwiGLU(LayerNorm(S)) with ``encode_sequence``
        Q <- Q + Attention(LayerNorm(Q), H)            length-modulated if so configured
        Q <- Q + FFN(TokenMixing([LayerNorm(Q) ; X]))  rows of Q only; X with side tokens

    With several histories the queries are split evenly among them in order, each part reads its
    own history, and mixing is joint.

    Args:
        config: ``HyformerBlockConfig``.

    Call arguments:
        queries: ``[rows, queries, dim]``, rows ``batch`` or ``batch * candidates``, the candidates
            of a user in consecutive rows.
        history: ``[batch, length, history_dim]``, or what ``encode_history`` made of it; with
            several histories a list of these.
        event_mask: ``[batch, length]``, true at real events and prompts; a list likewise.
        side_tokens: None, or ``[rows, tokens, dim]``; only where the config counts them.
        bias: None, or ``[rows or 1, queries, length]``, position biases; a list likewise.
        length: ``[batch]``, events in the user's history; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.
        training: whether dropout is on.

    Returns:
        ``[rows, queries, dim]``.

    Padding has weight exactly 0; a row of length 0 keeps its queries and only mixes them.

    Example:

    >>> block = HyformerBlock(HyformerBlockConfig(heads=2))
    >>> history, event_mask = tf.ones([2, 5, 8]), tf.ones([2, 5], tf.bool)
    >>> block(tf.ones([2, 4, 8]), history, event_mask).shape
    TensorShape([2, 4, 8])

    Reference: HyFormer, arXiv 2601.12681, in the form that LENS uses, arXiv 2605.25583.
    """

    def __init__(self, config: HyformerBlockConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = read(HyformerBlockConfig, config)
        policy = self.dtype_policy
        self.query_norm = _layer_norm("query_norm", policy)
        self.boost_norm = _layer_norm("boost_norm", policy)
        self.mixing = TokenMixing(self.config.mixing, name="mixing", dtype=policy)
        self.feed_forward = PerTokenFeedForward(
            self.config.hidden_ratio,
            shared=not self.config.per_query_feed_forward,
            name="feed_forward",
            dtype=policy,
        )
        self.dropout = keras.layers.Dropout(self.config.dropout, dtype=policy)
        self.sequence_norms: list[Any] = []
        self.sequence_networks: list[Any] = []
        if self.config.encode_sequence:
            for index in range(self.config.histories):
                self.sequence_norms.append(_layer_norm(f"sequence_norm_{index}", policy))
                self.sequence_networks.append(
                    PerTokenFeedForward(
                        2, "swiglu", shared=True, name=f"sequence_network_{index}", dtype=policy
                    )
                )

    def build(self, input_shape: Any) -> None:
        """Makes an attention for each history, and the mixing's parts."""
        queries, dim = int(input_shape[-2]), int(input_shape[-1])
        history_dim = self.config.history_dim or dim
        if queries % self.config.histories:
            raise ValueError(
                f"histories {self.config.histories}: a divisor of the {queries} queries expected"
            )
        self.attentions = [
            LengthModulatedAttention(
                dim,
                self.config.heads,
                modulation=self.config.modulation,
                history_dim=history_dim,
                name=f"attention_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(self.config.histories)
        ]
        for attention in self.attentions:
            build_sublayer(attention, (None, queries // self.config.histories, dim))
        for layer in (*self.sequence_norms, *self.sequence_networks):
            build_sublayer(layer, (None, None, history_dim))
        tokens = (None, queries + self.config.side_tokens, dim)
        for layer in (self.query_norm, self.boost_norm, self.dropout):
            build_sublayer(layer, (None, queries, dim))
        build_sublayer(self.mixing, tokens)
        build_sublayer(self.feed_forward, tokens)
        super().build(input_shape)

    def encode_history(self, history: tf.Tensor | Sequence[tf.Tensor]) -> list[EncodedHistory]:
        """Returns keys and values of each history, computed once for all candidates."""
        return [
            attention.encode_history(self._encode_sequence(part, index))
            for index, (attention, part) in enumerate(
                zip(self.attentions, _as_list(history), strict=True)
            )
        ]

    def call(
        self,
        queries: tf.Tensor,
        history: Any,
        event_mask: tf.Tensor | Sequence[tf.Tensor],
        side_tokens: tf.Tensor | None = None,
        bias: tf.Tensor | Sequence[tf.Tensor] | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns the queries after reading and mixing."""
        count = len(self.attentions)
        parts = tf.split(self.query_norm(queries), count, axis=1)
        biases = [None] * count if bias is None else _as_list(bias)
        read_parts = []
        for index, (part, events, real, logits) in enumerate(
            zip(parts, _as_list(history), _as_list(event_mask), biases, strict=True)
        ):
            if not isinstance(events, EncodedHistory):
                events = self._encode_sequence(events, index)
            attention = self.attentions[index]
            read_parts.append(attention(part, events, real, logits, length, length_vector))
        queries += self.dropout(tf.concat(read_parts, axis=1), training=training)
        return queries + self.dropout(self.boost(queries, side_tokens), training=training)

    def boost(self, queries: tf.Tensor, side_tokens: tf.Tensor | None = None) -> tf.Tensor:
        """Returns what mixing adds to the queries ``[rows, queries, dim]``."""
        found = 0 if side_tokens is None else side_tokens.shape[1]
        if found != self.config.side_tokens:
            raise ValueError(
                f"{self.name}: {self.config.side_tokens} side_tokens expected, found {found}"
            )
        tokens = self.boost_norm(queries)
        if side_tokens is None:
            return self.feed_forward(self.mixing(tokens))
        tokens = tf.concat([tokens, tf.cast(side_tokens, tokens.dtype)], axis=1)
        return self.feed_forward(self.mixing(tokens))[:, : queries.shape[1]]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "config": plain(self.config)}

    def _encode_sequence(self, history: tf.Tensor, index: int) -> tf.Tensor:
        history = tf.cast(history, self.compute_dtype)
        if not self.config.encode_sequence:
            return history
        normal = self.sequence_norms[index](history)
        return history + self.sequence_networks[index](normal)


def _layer_norm(name: str, policy: Any) -> Any:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name, dtype=policy)


def _as_list(value: Any) -> list[Any]:
    # EncodedHistory is a tuple, and stands for one history.
    if isinstance(value, list) or (
        isinstance(value, tuple) and not isinstance(value, EncodedHistory)
    ):
        return list(value)
    return [value]
