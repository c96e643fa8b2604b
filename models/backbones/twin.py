"""Two-stage Interest Network."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.length_context import LengthSignals
from models.backbones.long_history import LongHistoryBackbone
from models.layers.topk_attention import TopKAttention


@keras.utils.register_keras_serializable(package="lengthwise")
class TwinBackbone(LongHistoryBackbone):
    """Long branch: attention to the best events by the attention's own scores (arXiv 2302.02352).

    LAIN's prompts are read beside the best events and do not compete with them.

    Args, inputs and output: see :class:`~models.backbones.long_history.LongHistoryBackbone`.
    """

    def build(self, input_shape: Any) -> None:
        """Makes the attention of both stages."""
        self.long_attention = TopKAttention(
            self.options.attention_dim,
            self.options.heads,
            self.options.retrieved,
            self.long_modulation,
            name="long_attention",
        )
        super().build(input_shape)

    def long_interest(
        self, inputs: SequenceInputs, signals: LengthSignals, shared_history: bool = False
    ) -> tf.Tensor:
        """Returns what the target reads from its best events, [rows, dim]."""
        return self.long_attention(
            inputs.target,
            inputs.history,
            inputs.mask,
            signals.prompts,
            signals.length,
            signals.vector,
            shared_history,
        )
