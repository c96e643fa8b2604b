"""Mixing of a fixed set of tokens."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.config import MixingKind
from models.layers.sublayers import build_sublayer


@keras.utils.register_keras_serializable(package="lengthwise")
class TokenMixing(keras.layers.Layer):
    """Mixes tokens by shuffling their chunks, or by an MLP over the tokens.

    Formula::

        shuffle:  reshape [T, D] -> [T, T, D / T], transpose the first two axes, reshape -> [T, D]
        mlp:      transpose, Dense(GELU(Dense)) of widths 2T and T over the tokens, transpose

    The shuffle has no weights; new token h is chunk h of every token. Where the number of tokens
    does not divide the width, tokens of zeros are added up to the smallest divisor of the width
    and dropped after the shuffle (12 tokens of width 64 are mixed as 16). Without such padding,
    mixing twice gives the tokens back.

    Args:
        kind: ``MixingKind``, default ``shuffle``.

    Call arguments:
        tokens: ``[batch, tokens, dim]``; tokens and dim fixed.

    Returns:
        ``[batch, tokens, dim]``.

    There is no padding or length here: tokens are queries and side fields, not events.

    Example:

    >>> TokenMixing()(tf.constant([[[1.0, 2.0], [3.0, 4.0]]])).numpy().tolist()
    [[[1.0, 3.0], [2.0, 4.0]]]

    Reference: HyFormer, arXiv 2601.12681; HeadMix of MixFormer, arXiv 2602.14110.
    """

    def __init__(self, kind: MixingKind | str = MixingKind.SHUFFLE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = MixingKind(kind)

    def build(self, input_shape: Any) -> None:
        """Works out the padded number of tokens, or makes the MLP."""
        self.tokens, self.dim = int(input_shape[-2]), int(input_shape[-1])
        if self.kind is MixingKind.SHUFFLE:
            self.padded_tokens = padded_token_count(self.tokens, self.dim)
        else:
            self.expand = keras.layers.Dense(
                2 * self.tokens, activation="gelu", name="expand", dtype=self.dtype_policy
            )
            self.contract = keras.layers.Dense(
                self.tokens, name="contract", dtype=self.dtype_policy
            )
            build_sublayer(self.expand, (None, self.dim, self.tokens))
            build_sublayer(self.contract, (None, self.dim, 2 * self.tokens))
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Returns the mixed tokens."""
        if self.kind is MixingKind.MLP:
            mixed = self.contract(self.expand(tf.transpose(tokens, [0, 2, 1])))
            return tf.transpose(mixed, [0, 2, 1])  # [batch, tokens, dim]
        padded = self.padded_tokens
        if padded > self.tokens:
            tokens = tf.pad(tokens, [[0, 0], [0, padded - self.tokens], [0, 0]])
        rows = tf.shape(tokens)[0]
        chunks = tf.reshape(tokens, [rows, padded, padded, self.dim // padded])
        mixed = tf.reshape(tf.transpose(chunks, [0, 2, 1, 3]), [rows, padded, self.dim])
        return mixed[:, : self.tokens] if padded > self.tokens else mixed

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "kind": self.kind.value}


def padded_token_count(tokens: int, dim: int) -> int:
    """Returns the smallest divisor of ``dim`` that is at least ``tokens``.

    Raises:
        ValueError: there are more tokens than entries in each.
    """
    if tokens > dim:
        raise ValueError(
            f"{tokens} tokens of width {dim}: a shuffle needs a width of at least the number of "
            "tokens; mixing by mlp is accepted"
        )
    return next(count for count in range(tokens, dim + 1) if dim % count == 0)
