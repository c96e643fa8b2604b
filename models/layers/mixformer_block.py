"""One layer of MixFormer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.config import MixformerBlockConfig, conditioning_dim, plain, read
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.per_token_feed_forward import PerTokenFeedForward
from models.layers.root_mean_square_norm import RootMeanSquareNorm
from models.layers.sublayers import build_sublayer, require_argument
from models.layers.token_mixing import TokenMixing


@keras.utils.register_keras_serializable(package="lengthwise")
class MixformerBlock(keras.layers.Layer):
    """Mixes feature heads, lets each read its slice of the history, and transforms them.

    Formula, for heads X of N x D, events s of N * D and head i::

        P   = HeadMix(RMSNorm(X)) + X
        q_i = SwiGLU_i(RMSNorm(p_i)) + p_i
        h_t = SwiGLU(RMSNorm(s_t)) + s_t                        cut into N slices h_t^i
        z_i = sum_t softmax_t(q_i . (h_t^i Wk_i) / sqrt(D) + bias) h_t^i Wv_i + q_i
        o_i = SwiGLU_i(RMSNorm(z_i)) + z_i

    Keys and values are never formed: ``q . (h Wk) = (q Wk^T) . h`` and ``p (h Wv) = (p h) Wv``,
    with the same products for each event whatever the number of queries. With length-modulated
    attention, the score uses ``q_i + e U_i``, U starting at zero (the head has no query projection
    to widen, and a length column of a key shifts all logits alike), over the temperature.

    Args:
        config: ``MixformerBlockConfig``.

    Call arguments:
        heads: ``[rows, heads, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of
            a user in consecutive rows.
        history: ``[batch, length, heads * dim]``.
        event_mask: ``[batch, length]``, true at real events and prompts.
        bias: None, or ``[rows or 1, heads, length]``; shorter than the history if prompts lead.
        length: ``[batch]``, events in the user's history; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.
        training: whether dropout is on.

    Returns:
        the heads ``[rows, heads, dim]``, and the history h ``[batch, length, heads * dim]`` for
        the next layer.

    Padding has weight exactly 0; a row of length 0 reads zeros.

    Example:

    >>> block = MixformerBlock(MixformerBlockConfig())
    >>> heads, history = block(tf.ones([2, 4, 8]), tf.ones([2, 5, 32]), tf.ones([2, 5], tf.bool))
    >>> heads.shape, history.shape
    (TensorShape([2, 4, 8]), TensorShape([2, 5, 32]))

    Reference: MixFormer, arXiv 2602.14110.
    """

    def __init__(self, config: MixformerBlockConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = read(MixformerBlockConfig, config)
        policy = self.dtype_policy
        self.norms = [
            RootMeanSquareNorm(name=name, dtype=policy)
            for name in ("mix_norm", "query_norm", "history_norm", "output_norm")
        ]
        self.mixing = TokenMixing(name="mixing", dtype=policy)
        self.networks = [
            PerTokenFeedForward(
                self.config.hidden_ratio, "swiglu", shared=shared, name=name, dtype=policy
            )
            for name, shared in (
                ("query_network", False),
                ("history_network", True),
                ("output_network", False),
            )
        ]
        self.dropout = keras.layers.Dropout(self.config.dropout, dtype=policy)
        self.length_dim = conditioning_dim(self.config.modulation)
        self.temperature = make_temperature(self.config.modulation)

    def build(self, input_shape: Any) -> None:
        """Makes the parts and the key and value projections of each head."""
        heads, dim = int(input_shape[-2]), int(input_shape[-1])
        if dim % heads:
            raise ValueError(f"{heads} heads of width {dim}: heads must divide the width")
        for layer in (*self.norms[:2], self.norms[3], self.networks[0], self.networks[2]):
            build_sublayer(layer, (None, heads, dim))
        for layer in (self.norms[2], self.networks[1]):
            build_sublayer(layer, (None, None, heads * dim))
        build_sublayer(self.mixing, (None, heads, dim))
        build_sublayer(self.dropout, (None, heads, dim))
        limit = (3 / dim) ** 0.5
        initializer = keras.initializers.RandomUniform
        self.key_kernel = self.add_weight(
            name="key_kernel", shape=(heads, dim, dim), initializer=initializer(-limit, limit)
        )
        self.value_kernel = self.add_weight(
            name="value_kernel", shape=(heads, dim, dim), initializer=initializer(-limit, limit)
        )
        if self.length_dim:
            self.length_kernel = self.add_weight(
                name="length_kernel",
                shape=(self.length_dim, heads, dim),
                initializer="zeros",
            )
        if self.temperature is not None:
            build_sublayer(self.temperature, (None,))
        super().build(input_shape)

    def encode_history(self, history: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns h ``[batch, length, heads * dim]``, computed once for all candidates."""
        history = tf.cast(history, self.compute_dtype)
        added = self.networks[1](self.norms[2](history))
        return history + self.dropout(added, training=training)

    def read(
        self,
        heads: tf.Tensor,
        encoded: tf.Tensor,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns the heads ``[rows, heads, dim]`` after reading what ``encode_history`` made."""
        mixed = heads + self.dropout(self.mixing(self.norms[0](heads)), training=training)
        query = mixed + self.dropout(self.networks[0](self.norms[1](mixed)), training=training)
        weights = self._weights(query, encoded, event_mask, bias, length, length_vector)
        slices = self._slices(encoded, heads)
        pooled = tf.einsum("ucnl,ulnd->ucnd", tf.cast(weights, query.dtype), slices)
        value = tf.einsum("rnd,nde->rne", ungroup(pooled), tf.cast(self.value_kernel, query.dtype))
        out = query + self.dropout(value, training=training)
        return out + self.dropout(self.networks[2](self.norms[3](out)), training=training)

    def call(
        self,
        heads: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the heads and the history for the next layer."""
        encoded = self.encode_history(history, training=training)
        heads = self.read(heads, encoded, event_mask, bias, length, length_vector, training)
        return heads, encoded

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "config": plain(self.config)}

    def _weights(
        self,
        query: tf.Tensor,
        encoded: tf.Tensor,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None,
        length: tf.Tensor | None,
        length_vector: tf.Tensor | None,
    ) -> tf.Tensor:
        users = tf.shape(event_mask)[0]
        scored = self._condition(query, length_vector) * query.shape[-1] ** -0.5
        folded = tf.einsum("rne,nde->rnd", scored, tf.cast(self.key_kernel, query.dtype))
        logits = tf.einsum(
            "ucnd,ulnd->ucnl", group_by_user(folded, users), self._slices(encoded, query)
        )
        logits = tf.cast(logits, tf.float32)
        if bias is not None:
            missing = tf.shape(logits)[-1] - tf.shape(bias)[-1]
            bias = tf.pad(tf.cast(bias, tf.float32), [[0, 0], [0, 0], [missing, 0]])
            logits += bias[None] if bias.shape[0] == 1 else group_by_user(bias, users)
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        return masked_softmax(logits, tf.cast(event_mask, tf.bool)[:, None, None, :])

    def _condition(self, query: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        if not self.length_dim:
            return query
        require_argument(self.name, "length_vector", length_vector, "query_key_conditioning")
        kernel = tf.cast(self.length_kernel, query.dtype)
        shift = tf.einsum("bc,cnd->bnd", tf.cast(length_vector, query.dtype), kernel)
        return query + repeat_for_candidates(shift, query)

    def _slices(self, encoded: tf.Tensor, heads: tf.Tensor) -> tf.Tensor:
        sizes = tf.shape(encoded)
        return tf.reshape(encoded, [sizes[0], sizes[1], heads.shape[1], heads.shape[2]])
