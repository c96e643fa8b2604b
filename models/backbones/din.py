"""Deep Interest Network: target attention over the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.layers.din_activation_unit import DinActivationUnit
from models.layers.masking import masked_softmax


@keras.utils.register_keras_serializable(package="lengthwise")
class DinBackbone(keras.layers.Layer):
    """Interest = sum of the event vectors, weighted by their relevance to the target.

    With target t and events s (arXiv 1706.06978; the paper leaves the softmax out, here it is
    on, so that weights mean the same for short and long histories)::

        weight = softmax over events( activation unit(t, s) )
        interest = sum(weight * s)

    Args:
        hidden_units: widths of the activation unit's hidden layers.

    Inputs:
        :class:`~models.backbones.base.SequenceInputs`.

    Output:
        [rows, dim]; 0 for a history of length 0.
    """

    def __init__(self, hidden_units: Sequence[int] = (64,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.unit = DinActivationUnit(hidden_units=self.hidden_units, name="activation_unit")

    def build(self, input_shape: Any) -> None:
        """Builds the activation unit."""
        self.unit.build(input_shape[0])
        super().build(input_shape)

    def call(self, inputs: SequenceInputs) -> tf.Tensor:
        """Attends to the history; see the class."""
        weights = tf.cast(self.attention(inputs), inputs.history.dtype)
        return tf.einsum("rl,rld->rd", weights, inputs.history)

    def attention(self, inputs: SequenceInputs) -> tf.Tensor:
        """Returns the weights of the events, float32 [rows, length]."""
        return masked_softmax(self.unit(inputs.target, inputs.history), inputs.mask)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "hidden_units": list(self.hidden_units)}
