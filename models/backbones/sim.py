"""Search-based Interest Model, soft search."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.searching import SearchingBackbone
from models.layers.soft_search import SoftSearch
from models.layers.sublayers import build_sublayer


@keras.utils.register_keras_serializable(package="lengthwise")
class SimBackbone(SearchingBackbone):
    """Long branch: attention to the events that a learned search scores highest.

    The choice of events has no gradient; the search learns from an auxiliary click prediction
    (arXiv 2006.05639), whose logit is ``auxiliary_logit(inputs)``: add its cross-entropy to the
    loss with weight 1. LAIN's prompts stand before the retrieved events and are not searched.

    Args, inputs and output: see :class:`~models.backbones.long_history.LongHistoryBackbone`.
    """

    def build(self, input_shape: Any) -> None:
        """Makes the search and the auxiliary network."""
        self.search = SoftSearch(self.options.search_dim, self.options.retrieved, name="search")
        widths = self.options.auxiliary_units
        self.auxiliary = [
            *(
                keras.layers.Dense(width, "relu", name=f"auxiliary_{index}")
                for index, width in enumerate(widths)
            ),
            keras.layers.Dense(1, dtype="float32", name="auxiliary_logit"),
        ]
        joined = 2 * int(input_shape[0][-1]) + int(input_shape[4][-1])
        for layer, width in zip(self.auxiliary, (joined, *widths), strict=True):
            build_sublayer(layer, (None, width))
        super().build(input_shape)

    def auxiliary_logit(self, inputs: SequenceInputs) -> tf.Tensor:
        """Returns the click logit of the search's own prediction, float32 [rows]."""
        pooled = self.search(inputs.target, inputs.history, inputs.mask).pooled
        hidden = tf.concat([inputs.non_sequence, inputs.target, pooled], axis=-1)
        for layer in self.auxiliary:
            hidden = layer(hidden)
        return tf.squeeze(hidden, axis=-1)
