"""Root mean square normalisation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable(package="lengthwise")
class RootMeanSquareNorm(keras.layers.Layer):
    """Divides each vector by its root mean square and scales each entry.

    Formula::

        y = x / sqrt(mean(x^2) + epsilon) * scale

    Keras 2 has no such layer. Computed in float32 also under mixed precision.

    Args:
        epsilon: float, default 1e-6.

    Call arguments:
        inputs: ``[..., dim]``.

    Returns:
        of the shape of ``inputs``.

    Padding vectors of zeros stay zeros, with a finite gradient.

    Example:

    >>> RootMeanSquareNorm()(tf.constant([[3.0, 3.0]])).numpy().round(3).tolist()
    [[1.0, 1.0]]

    Reference: as used by MixFormer, arXiv 2602.14110, and OneTrans, arXiv 2510.26104.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Makes the scale."""
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the normalised vectors."""
        values = tf.cast(inputs, tf.float32)
        mean_square = tf.reduce_mean(tf.square(values), axis=-1, keepdims=True)
        normal = values * tf.math.rsqrt(mean_square + self.epsilon)
        return tf.cast(normal * tf.cast(self.scale, tf.float32), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "epsilon": self.epsilon}
