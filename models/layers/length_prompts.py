"""Length-conditioned prompts of LAIN."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.sublayers import build_sublayer, require_at_least, size_of


@keras.utils.register_keras_serializable(package="lengthwise")
class LengthPrompts(keras.layers.Layer):
    """Makes a few prompt events from the length vector, to stand before the history.

    Formula::

        P = reshape(Dense(GELU(Dense(h_len))), [count, dim])
        S' = [P ; S]        mask' = [1 ; mask]

    The same prompts go before the short and the long branch of a backbone.

    Args:
        count: int, prompts for each row, default 4.
        dim: int, width of the history's event vectors.
        hidden: int or None, width between the two dense layers; ``2 * dim`` if None.
        deviation: float, standard deviation of the last kernel at the start, default 0.02.

    Call arguments:
        length_vector: ``[batch, length_dim]``, of the spectral length encoder.

    Returns:
        ``[batch, count, dim]``.

    Prompts are never masked and never counted as length: ``prepend_prompts`` gives them a true
    mask, and the padding of a left-padded history stays between prompts and events. A row of
    length 0 still has its prompts.

    Example:

    >>> layer = LengthPrompts(count=4, dim=8)
    >>> prompts = layer(tf.zeros([2, 16]))
    >>> history, mask = prepend_prompts(
    ...     prompts, tf.zeros([2, 5, 8]), tf.zeros([2, 5], tf.bool)
    ... )
    >>> history.shape, mask[0].numpy().tolist()
    (TensorShape([2, 9, 8]), [True, True, True, True, False, False, False, False, False])

    Reference: LAIN, arXiv 2601.19142.
    """

    def __init__(
        self,
        count: int = 4,
        *,
        dim: int,
        hidden: int | None = None,
        deviation: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("count", count, 1)
        require_at_least("dim", dim, 1)
        self.count = count
        self.dim = dim
        self.hidden = hidden
        self.deviation = deviation
        self.hidden_layer = keras.layers.Dense(
            hidden or 2 * dim, activation="gelu", name="hidden", dtype=self.dtype_policy
        )
        self.output_layer = keras.layers.Dense(
            count * dim,
            kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
            name="output",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any) -> None:
        """Makes the two dense layers."""
        build_sublayer(self.hidden_layer, (None, input_shape[-1]))
        build_sublayer(self.output_layer, (None, self.hidden or 2 * self.dim))
        super().build(input_shape)

    def call(self, length_vector: tf.Tensor) -> tf.Tensor:
        """Returns the prompts of each row."""
        prompts = self.output_layer(self.hidden_layer(length_vector))
        return tf.reshape(prompts, [-1, self.count, self.dim])  # [batch, count, dim]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "count": self.count,
            "dim": self.dim,
            "hidden": self.hidden,
            "deviation": self.deviation,
        }


def prepend_prompts(
    prompts: tf.Tensor, history: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts prompts before a history; they are never masked.

    Args:
        prompts: ``[batch, count, dim]``, from ``LengthPrompts``.
        history: ``[batch, length, dim]``.
        mask: ``[batch, length]``, true at real events.

    Returns:
        ``[batch, count + length, dim]`` and its bool mask ``[batch, count + length]``.
    """
    always = tf.ones([size_of(history, 0), prompts.shape[1]], tf.bool)
    extended = tf.concat([tf.cast(prompts, history.dtype), history], axis=1)
    return extended, tf.concat([always, tf.cast(mask, tf.bool)], axis=1)
