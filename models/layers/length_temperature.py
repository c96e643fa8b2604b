"""The temperature of length-modulated attention."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.config import LengthModulation, plain, read
from models.layers.sublayers import require_argument


@keras.utils.register_keras_serializable(package="lengthwise")
class LengthTemperature(keras.layers.Layer):
    """Gives each row an attention temperature that falls as its history grows.

    Formula::

        tau = 1 + gamma * sigmoid(-beta * (length - mean_length))
        beta = softplus(b) / length_deviation        gamma = softplus(g)

    ``b`` and ``g`` are learned scalars, one pair for each layer instance. Both slopes stay
    positive, so that the order (short histories flat, long ones sharp) cannot turn round.

    Args:
        modulation: ``LengthModulation``; mean and deviation of length, initial slope and range.

    Call arguments:
        length: ``[batch]``, events in the history (integers keep large counts exact).

    Returns:
        ``[batch]`` float32 in (1, 1 + gamma), also under mixed precision.

    A length of 0 is an ordinary value: it has the highest temperature. Padding plays no part.

    Example:

    >>> modulation = LengthModulation(mean_length=50.0, length_deviation=20.0)
    >>> tau = LengthTemperature(modulation)(tf.constant([50]))
    >>> round(float(tau[0]), 4)
    1.25

    Reference: LAIN, arXiv 2601.19142.
    """

    def __init__(self, modulation: LengthModulation, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.modulation = read(LengthModulation, modulation)

    def build(self, input_shape: Any) -> None:
        """Makes the two scalars."""
        self.raw_slope = self.add_weight(
            name="raw_slope",
            shape=(),
            initializer=_inverse_softplus(self.modulation.initial_slope),
        )
        self.raw_range = self.add_weight(
            name="raw_range",
            shape=(),
            initializer=_inverse_softplus(self.modulation.initial_range),
        )
        super().build(input_shape)

    def call(self, length: tf.Tensor) -> tf.Tensor:
        """Returns the temperature of each row."""
        slope = tf.math.softplus(tf.cast(self.raw_slope, tf.float32))
        centred = tf.cast(length, tf.float32) - self.modulation.mean_length
        falling = tf.sigmoid(-slope * centred / self.modulation.length_deviation)
        return 1.0 + tf.math.softplus(tf.cast(self.raw_range, tf.float32)) * falling

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "modulation": plain(self.modulation)}


def make_temperature(modulation: LengthModulation | None) -> LengthTemperature | None:
    """Returns the temperature of an attention, or None where it is off."""
    if modulation is None or not modulation.temperature:
        return None
    return LengthTemperature(modulation, name="temperature")


def divide_by_temperature(
    logits: tf.Tensor, temperature: LengthTemperature | None, length: tf.Tensor | None, layer: str
) -> tf.Tensor:
    """Returns float32 logits ``[batch, ...]`` over the temperature of each row, if there is one."""
    logits = tf.cast(logits, tf.float32)
    if temperature is None:
        return logits
    require_argument(layer, "length", length, "temperature")
    # By the inverse of each row's: the gradient of a quotient divides all logits thrice.
    inverse = tf.math.reciprocal(temperature(length))
    return logits * tf.reshape(inverse, [-1, *[1] * (logits.shape.rank - 1)])


def _inverse_softplus(value: float) -> Any:
    # log(exp(value) - 1), without its overflow.
    return keras.initializers.Constant(value + math.log(-math.expm1(-value)))
