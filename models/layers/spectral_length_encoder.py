"""The spectral length encoder of LAIN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from models.layers.config import LengthInput, SpectralLengthEncoderConfig, plain, read
from models.layers.sublayers import build_sublayer, fixed_values


@keras.utils.register_keras_serializable(package="lengthwise")
class SpectralLengthEncoder(keras.layers.Layer):
    """Turns a history length into a vector by learned Fourier features.

    Formula::

        x     = min(length, max_length), log(1 + x) or x / max_length by ``length_input``
        f     = [sin(x w) ; cos(x w)]                  w learned, ``frequencies`` of them
        h_len = Dense(GELU(Dense(LayerNorm(Dense(f)))))

    Wavelengths start log-spaced from ``shortest_wavelength`` to ``2 * max_length`` events,
    rescaled to the range of x. A normal start would alias at lengths near 1,000.

    Args:
        config: ``SpectralLengthEncoderConfig``.

    Call arguments:
        length: ``[batch]``, events in the history (integers keep large counts exact).
        training: whether dropout is on.

    Returns:
        ``[batch, dim]`` float32, also under mixed precision: half precision cannot hold the
        phase of a length of 1,000.

    A length of 0 has the features sin 0 and cos 0, a vector of its own; padding plays no part.

    Example:

    >>> encoder = SpectralLengthEncoder(SpectralLengthEncoderConfig(max_length=100, dim=16))
    >>> encoder(tf.constant([0, 7, 100])).shape
    TensorShape([3, 16])

    Reference: LAIN, arXiv 2601.19142.
    """

    def __init__(self, config: SpectralLengthEncoderConfig, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.config = read(SpectralLengthEncoderConfig, config)
        width = 2 * self.config.frequencies
        self.project = keras.layers.Dense(width, name="project", dtype="float32")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype="float32")
        self.hidden = keras.layers.Dense(
            self.config.dim, activation="gelu", name="hidden", dtype="float32"
        )
        self.dropout = keras.layers.Dropout(self.config.dropout, dtype="float32")
        self.output_projection = keras.layers.Dense(
            self.config.dim, name="output_projection", dtype="float32"
        )

    def build(self, input_shape: Any) -> None:
        """Makes the frequencies and the dense layers."""
        start = _initial_frequencies(self.config)
        self.initial_frequencies = self.add_weight(
            name="initial_frequencies",
            shape=start.shape,
            initializer=fixed_values(start),
            trainable=False,
        )
        # Adam divides a scaled gradient by its own scale, so the multiplier has to act on the
        # step: the frequencies are their start plus the rate times a learned change.
        self.frequency_change = self.add_weight(
            name="frequency_change", shape=start.shape, initializer="zeros"
        )
        width = 2 * self.config.frequencies
        build_sublayer(self.project, (None, width))
        build_sublayer(self.norm, (None, width))
        build_sublayer(self.hidden, (None, width))
        build_sublayer(self.dropout, (None, self.config.dim))
        build_sublayer(self.output_projection, (None, self.config.dim))
        super().build(input_shape)

    def features(self, length: tf.Tensor) -> tf.Tensor:
        """Returns the Fourier features ``[batch, 2 * frequencies]`` of ``length [batch]``."""
        config = self.config
        value = tf.minimum(tf.cast(length, tf.float32), float(config.max_length))
        value = _transform(value, config)
        frequencies = self.initial_frequencies + config.frequency_rate * self.frequency_change
        phase = value[:, None] * tf.cast(frequencies, tf.float32)  # [batch, frequencies]
        return tf.concat([tf.sin(phase), tf.cos(phase)], axis=-1)

    def call(self, length: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the length vector of each row."""
        hidden = self.hidden(self.norm(self.project(self.features(length))))
        return self.output_projection(self.dropout(hidden, training=training))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "config": plain(self.config)}


def _transform(value: tf.Tensor, config: SpectralLengthEncoderConfig) -> tf.Tensor:
    if config.length_input is LengthInput.LOG1P:
        return tf.math.log1p(value)
    if config.length_input is LengthInput.DIV_MAX:
        return value / config.max_length
    return value


def _initial_frequencies(config: SpectralLengthEncoderConfig) -> np.ndarray:
    longest = 2.0 * config.max_length
    shortest = min(config.shortest_wavelength, longest)
    wavelengths = np.geomspace(shortest, longest, config.frequencies)
    scale = {
        LengthInput.RAW: 1.0,
        LengthInput.LOG1P: math.log1p(config.max_length) / config.max_length,
        LengthInput.DIV_MAX: 1.0 / config.max_length,
    }[config.length_input]
    return (2 * math.pi / (wavelengths * scale)).astype(np.float32)
