"""What LAIN adds to a backbone: a length vector and prompts, made once for all branches."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.backbones.config import LengthAdaptation
from models.layers.candidates import repeat_for_candidates
from models.layers.config import plain, read
from models.layers.length_prompts import LengthPrompts, prepend_prompts
from models.layers.spectral_length_encoder import SpectralLengthEncoder


class LengthSignals(NamedTuple):
    """What a branch needs to adapt to length; all None where LAIN is off.

    Attributes:
        length: events in the history, [rows].
        vector: the length vector, [rows, length_dim]; None where nothing reads it.
        prompts: prompts, [rows, count, dim]; None also where only these are off.
    """

    length: tf.Tensor | None = None
    vector: tf.Tensor | None = None
    prompts: tf.Tensor | None = None

    def for_each(self, target: tf.Tensor) -> LengthSignals:
        """Repeats the signals of a user for each of his candidates."""
        return LengthSignals(
            *(None if part is None else repeat_for_candidates(part, target) for part in self)
        )

    def prepend(self, history: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Puts the prompts, if there are any, before a history; they are never masked."""
        if self.prompts is None:
            return history, mask
        return prepend_prompts(self.prompts, history, mask)


@keras.utils.register_keras_serializable(package="lengthwise")
class LengthContext(keras.layers.Layer):
    """Encodes the history length and makes the prompts that all branches share.

    Args:
        adaptation: ``LengthAdaptation``.
        dim: width of the events that prompts stand before.

    Inputs:
        length: events in the history, [rows].

    Output:
        ``LengthSignals``.

    Reference: LAIN, arXiv 2601.19142.
    """

    def __init__(self, adaptation: LengthAdaptation, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.adaptation = read(LengthAdaptation, adaptation)
        self.dim = dim
        self.encoder = None
        if self.adaptation.prompts or self.adaptation.query_key_conditioning:
            self.encoder = SpectralLengthEncoder(self.adaptation.encoder, name="encoder")
        self.prompts = None
        if self.adaptation.prompts:
            self.prompts = LengthPrompts(self.adaptation.prompts, dim=dim, name="prompts")

    def call(self, length: tf.Tensor, training: bool | None = None) -> LengthSignals:
        """Returns the signals of each row."""
        if self.encoder is None:  # the temperature reads the length itself
            return LengthSignals(length=length)
        rows, place = length, None
        if not (training and self.adaptation.dropout):  # which each row draws for itself
            # Many rows have the same length, in a group of like length most of them.
            rows, place = tf.unique(length)
        vector = self.encoder(rows, training=training)
        prompts = None if self.prompts is None else self.prompts(vector)
        if place is not None:
            vector = tf.gather(vector, place)
            prompts = None if prompts is None else tf.gather(prompts, place)
        return LengthSignals(length=length, vector=vector, prompts=prompts)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "adaptation": plain(self.adaptation), "dim": self.dim}
