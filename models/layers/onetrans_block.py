"""One layer of OneTrans."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.config import OneTransBlockConfig, conditioning_dim, plain, read
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.mixed_projection import MixedProjection
from models.layers.per_token_feed_forward import PerTokenFeedForward
from models.layers.root_mean_square_norm import RootMeanSquareNorm
from models.layers.sublayers import build_sublayer
from models.layers.target_attention import EncodedHistory


@keras.utils.register_keras_serializable(package="lengthwise")
class OneTransBlock(keras.layers.Layer):
    """One transformer layer over the events of a history and the tokens of side fields.

    Formula, for X = [events ; tokens]::

        Z = MixedAttention(RMSNorm(X)) + X
        X = MixedFeedForward(RMSNorm(Z)) + Z

    Events share one set of projections and one feed-forward network; each token has its own.
    A position bias is added between tokens (rows) and events (columns) only. With length-modulated
    attention the length vector joins every query and key, also through shared and separate
    weights that start at zero, and all logits are divided by the temperature.

    Args:
        config: ``OneTransBlockConfig``.

    Call arguments:
        tokens: ``[rows, tokens, dim]``; rows ``batch``, or ``batch * candidates`` if causal, the
            candidates of a user in consecutive rows.
        sequence: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events and prompts.
        bias: None, or ``[rows or 1, tokens, length]``; shorter than the sequence if prompts lead.
        length: ``[batch]``, events in the user's history; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.
        training: whether dropout is on.

    Returns:
        the tokens ``[rows, tokens, dim]``, and the sequence ``[batch, length, dim]``, of its last
        ``sequence_queries`` events if so configured (cut ``event_mask`` likewise).

    Padding is never attended to; its own outputs are finite and meaningless. At length 0 tokens
    attend to tokens. Where it is causal, ``encode_history`` and ``update_sequence`` do not see the
    candidate and can be computed once for all of them, then ``read`` for each.

    Example:

    >>> block = OneTransBlock(OneTransBlockConfig(heads=2))
    >>> tokens, history = block(tf.ones([2, 3, 8]), tf.ones([2, 5, 8]), tf.ones([2, 5], tf.bool))
    >>> tokens.shape, history.shape
    (TensorShape([2, 3, 8]), TensorShape([2, 5, 8]))

    Reference: OneTrans, arXiv 2510.26104; the position bias is that of LENS, arXiv 2605.25583.
    """

    def __init__(self, config: OneTransBlockConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = read(OneTransBlockConfig, config)
        policy = self.dtype_policy
        length_dim = conditioning_dim(self.config.modulation)
        self.attention_norm = RootMeanSquareNorm(name="attention_norm", dtype=policy)
        self.network_norm = RootMeanSquareNorm(name="network_norm", dtype=policy)
        # No event goes on from a last layer, so nothing of it asks or is written.
        goes_on = self.config.sequence_queries != 0
        self.query, self.key, self.value, self.output_projection = (
            MixedProjection(dim_of_length, shared=shared, name=name, dtype=policy)
            for name, dim_of_length, shared in (
                ("query", length_dim, goes_on),
                ("key", length_dim, True),
                ("value", 0, True),
                ("output_projection", 0, goes_on),
            )
        )
        self.sequence_network, self.token_network = (
            PerTokenFeedForward(
                self.config.hidden_ratio,
                self.config.activation,
                shared=shared,
                name=name,
                dtype=policy,
            )
            for name, shared in (("sequence_network", True), ("token_network", False))
        )
        self.dropout = keras.layers.Dropout(self.config.dropout, dtype=policy)
        self.temperature = make_temperature(self.config.modulation)

    def build(self, input_shape: Any) -> None:
        """Makes the parts."""
        self.dim = int(input_shape[-1])
        if self.dim % self.config.heads:
            raise ValueError(
                f"heads {self.config.heads}: a divisor of the width {self.dim} expected"
            )
        for layer in (self.query, self.key, self.value, self.output_projection):
            build_sublayer(layer, input_shape)
        for layer in (self.attention_norm, self.network_norm, self.token_network, self.dropout):
            build_sublayer(layer, input_shape)
        if self.config.sequence_queries != 0:
            build_sublayer(self.sequence_network, (None, None, self.dim))
        if self.temperature is not None:
            build_sublayer(self.temperature, (None,))
        super().build(input_shape)

    def call(
        self,
        tokens: tf.Tensor,
        sequence: tf.Tensor,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tokens and the sequence for the next layer."""
        sequence = tf.cast(sequence, self.compute_dtype)
        memory = self.encode_history(sequence, length_vector)
        new_tokens = self.read(tokens, memory, event_mask, bias, length, length_vector, training)
        if self.config.sequence_queries == 0:
            return new_tokens, sequence[:, :0]
        seen = None if self.config.causal else tokens
        new_sequence = self.update_sequence(
            sequence, memory, event_mask, seen, length, length_vector, training
        )
        return new_tokens, new_sequence

    def encode_history(
        self, sequence: tf.Tensor, length_vector: tf.Tensor | None = None
    ) -> EncodedHistory:
        """Returns keys and values of the events ``[batch, length, dim]``."""
        normal = self.attention_norm(sequence)
        return EncodedHistory(
            keys=self.key.of_sequence(normal, length_vector), values=self.value.of_sequence(normal)
        )

    def read(
        self,
        tokens: tf.Tensor,
        memory: EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns the tokens ``[rows, tokens, dim]`` after attending to events and tokens."""
        users = tf.shape(event_mask)[0]
        query, own = self._of_tokens(tokens, length_vector)
        query, keys, values = (
            self._split(group_by_user(part, users)) for part in (query, own.keys, own.values)
        )
        past = tf.einsum("ucthe,ulhe->uhctl", query, self._split(memory.keys))
        past = tf.cast(past, tf.float32)
        if bias is not None:
            past += _align_bias(tf.cast(bias, tf.float32), past, users)
        side = tf.cast(tf.einsum("ucthe,uckhe->uhctk", query, keys), tf.float32)
        logits = tf.concat([past, side], axis=-1)
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        real = tf.cast(event_mask, tf.bool)[:, None, None, None, :]
        weights = masked_softmax(logits, self._token_mask(real, side))
        weights = tf.cast(weights, tokens.dtype)
        of_past, of_side = weights[..., : -tokens.shape[1]], weights[..., -tokens.shape[1] :]
        read = tf.einsum("uhctl,ulhe->ucthe", of_past, self._split(memory.values))
        read += tf.einsum("uhctk,uckhe->ucthe", of_side, values)
        read = tf.reshape(ungroup(read), [-1, tokens.shape[1], self.dim])
        state = tokens + self.dropout(self.output_projection(read), training=training)
        added = self.token_network(self.network_norm(state))
        return state + self.dropout(added, training=training)

    def update_sequence(
        self,
        sequence: tf.Tensor,
        memory: EncodedHistory,
        event_mask: tf.Tensor,
        tokens: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns the events for the next layer; they see the ``tokens`` unless it is causal."""
        if (tokens is None) != self.config.causal:
            raise ValueError(f"{self.name}: tokens are seen by events only where causal is False")
        states = sequence
        if self.config.sequence_queries is not None:
            states = sequence[:, -self.config.sequence_queries :]
        query = self.query.of_sequence(self.attention_norm(states), length_vector)
        keys, values = memory
        real = tf.cast(event_mask, tf.bool)[:, None, None, :]  # [batch, 1, 1, length]
        if tokens is None:
            last = tf.shape(sequence)[1]
            order = tf.range(last)
            own_positions = order[last - tf.shape(states)[1] :]
            real = real & (order[None, :] <= own_positions[:, None])
        else:
            own = self._of_tokens(tokens, length_vector)[1]
            keys = tf.concat([keys, own.keys], axis=1)
            values = tf.concat([values, own.values], axis=1)
            sides = [[0, 0], [0, 0], [0, 0], [0, tokens.shape[1]]]
            real = tf.pad(real, sides, constant_values=True)
        scaled = self._split(query) * (self.dim // self.config.heads) ** -0.5
        logits = tf.einsum("bqhe,bkhe->bhqk", scaled, self._split(keys))
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        weights = tf.cast(masked_softmax(logits, real), states.dtype)
        read = tf.einsum("bhqk,bkhe->bqhe", weights, self._split(values))
        sizes = tf.shape(states)
        read = tf.reshape(read, [sizes[0], sizes[1], self.dim])
        states += self.dropout(self.output_projection.of_sequence(read), training=training)
        added = self.sequence_network(self.network_norm(states))
        return states + self.dropout(added, training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "config": plain(self.config)}

    def _of_tokens(
        self, tokens: tf.Tensor, length_vector: tf.Tensor | None
    ) -> tuple[tf.Tensor, EncodedHistory]:
        normal = self.attention_norm(tokens)
        if length_vector is not None:
            length_vector = repeat_for_candidates(length_vector, tokens)
        query = self.query(normal, length_vector) * (self.dim // self.config.heads) ** -0.5
        keys = self.key(normal, length_vector)
        return query, EncodedHistory(keys=keys, values=self.value(normal))

    def _token_mask(self, real: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
        """Joins the mask of events with that of tokens, ``[users, 1, candidates, t, l + t]``."""
        count = side.shape[-1]
        seen = tf.ones([count, count], tf.bool)
        if self.config.causal:
            seen = tf.linalg.band_part(tf.ones([count, count]), -1, 0) > 0
        sizes = tf.shape(side)
        leading = [sizes[0], 1, sizes[2], count]
        past = tf.broadcast_to(real, tf.concat([leading, tf.shape(real)[-1:]], axis=0))
        return tf.concat([past, tf.broadcast_to(seen, [*leading, count])], axis=-1)

    def _split(self, tensor: tf.Tensor) -> tf.Tensor:
        sizes = tf.shape(tensor)[:-1]
        heads = [self.config.heads, self.dim // self.config.heads]
        split = tf.reshape(tensor, tf.concat([sizes, heads], axis=0))
        return tf.ensure_shape(split, [*tensor.shape[:-1], *heads])


def _align_bias(bias: tf.Tensor, logits: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """Returns ``[users or 1, 1, candidates or 1, tokens, length]``, zero at leading prompts."""
    missing = tf.shape(logits)[-1] - tf.shape(bias)[-1]
    bias = tf.pad(bias, [[0, 0], [0, 0], [missing, 0]])
    grouped = bias[None] if bias.shape[0] == 1 else group_by_user(bias, users)
    return grouped[:, None]
