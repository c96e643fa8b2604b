"""What SIM, ETA, SDIM and TWIN share: a short branch beside the long one."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.config import LengthAdaptation, LongHistoryOptions
from models.backbones.length_context import LengthContext, LengthSignals
from models.layers.config import LengthModulation, plain, read
from models.layers.length_modulated_attention import LengthModulatedAttention
from models.layers.sublayers import build_sublayer
from models.layers.windows import has_windows, recent_events


class LongHistoryBackbone(keras.layers.Layer):
    """Interest = [attention to recent events ; what ``long_interest`` reads of all of them].

    The base of SIM, ETA, SDIM and TWIN, which differ in how the long branch finds its events.
    With a ``LengthAdaptation``, the two branches are adapted separately by its switches and share
    length vector and prompts.

    Args:
        options: ``LongHistoryOptions``.
        adaptation: ``LengthAdaptation`` or None.

    Inputs:
        :class:`~models.backbones.base.SequenceInputs`; target and fields may have a multiple of
        the history's rows, a user's candidates in consecutive rows.

    Output:
        [rows, 2 * dim]; without adaptation 0 for a history of length 0.
    """

    def __init__(
        self,
        options: LongHistoryOptions,
        adaptation: LengthAdaptation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.options = read(LongHistoryOptions, options)
        self.adaptation = None if adaptation is None else read(LengthAdaptation, adaptation)
        on = self.adaptation
        self.short_attention = self.attention(
            "short_attention", on.modulation if on and on.short_branch else None
        )
        self.long_modulation = on.modulation if on and on.long_branch else None

    def build(self, input_shape: Any) -> None:
        """Makes the length context, which needs the width of an event."""
        build_sublayer(self.short_attention, (None, 1, int(input_shape[0][-1])))
        self.context = None
        if self.adaptation is not None:
            dim = int(input_shape[0][-1])
            self.context = LengthContext(self.adaptation, dim, name="length_context")
        super().build(input_shape)

    def attention(self, name: str, modulation: LengthModulation | None) -> LengthModulatedAttention:
        """Returns an attention of the options' size."""
        return LengthModulatedAttention(
            self.options.attention_dim, self.options.heads, modulation=modulation, name=name
        )

    def call(
        self,
        inputs: SequenceInputs,
        training: bool | None = None,
        shared_history: bool = False,
    ) -> tf.Tensor:
        """Reads both branches; see the class."""
        signals = LengthSignals()
        if self.context is not None:
            signals = self.context(inputs.length, training=training)
        on = self.adaptation
        short = signals if on and on.short_branch else LengthSignals()
        long = signals if on and on.long_branch else LengthSignals()
        return tf.concat(
            [
                self.short_interest(inputs, short, shared_history),
                self.long_interest(inputs, long, shared_history),
            ],
            axis=-1,
        )

    def short_interest(
        self, inputs: SequenceInputs, signals: LengthSignals, shared_history: bool = False
    ) -> tf.Tensor:
        """Returns what the target reads from the most recent events, [rows, dim]."""
        recent = self.options.short_length
        if has_windows(inputs.mask):
            history, mask = recent_events(inputs.history, inputs.mask, recent)
        else:
            history, mask = inputs.history[:, -recent:], inputs.mask[:, -recent:]
        history, mask = signals.prepend(history, mask)
        query = inputs.target[:, tf.newaxis]
        if shared_history and not has_windows(inputs.mask):
            history = self.short_attention.encode_history(history)
        read_out = self.short_attention(query, history, mask, None, signals.length, signals.vector)
        return read_out[:, 0]

    def long_interest(
        self, inputs: SequenceInputs, signals: LengthSignals, shared_history: bool = False
    ) -> tf.Tensor:
        """Returns what the target reads from the whole history, [rows, dim]."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "options": plain(self.options),
            "adaptation": plain(self.adaptation),
        }
