"""What SIM and ETA share: a search of its own finds what the long branch attends to."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.backbones.base import SequenceInputs
from models.backbones.length_context import LengthSignals
from models.backbones.long_history import LongHistoryBackbone
from models.layers.chosen_events import put_prompts_first
from models.layers.sublayers import build_sublayer


class SearchingBackbone(LongHistoryBackbone):
    """Long branch: attention to the events that ``search`` finds for each target.

    LAIN's prompts stand before the events found and are not searched. A subclass makes ``search``
    in ``build`` before it calls this one.

    Args, inputs and output: see :class:`~models.backbones.long_history.LongHistoryBackbone`.
    """

    search: Any

    def build(self, input_shape: Any) -> None:
        """Makes the attention."""
        self.long_attention = self.attention("long_attention", self.long_modulation)
        build_sublayer(self.long_attention, (None, 1, int(input_shape[0][-1])))
        super().build(input_shape)

    def long_interest(
        self, inputs: SequenceInputs, signals: LengthSignals, shared_history: bool = False
    ) -> tf.Tensor:
        """Returns what the target reads from the events found, [rows, dim]."""
        if shared_history:
            return self._long_interest_by_keys(inputs, signals)
        found = self.search(inputs.target, inputs.history, inputs.mask)
        own = signals.for_each(inputs.target)
        events, mask = own.prepend(found.events, found.event_mask)
        query = inputs.target[:, tf.newaxis]
        return self.long_attention(query, events, mask, None, own.length, own.vector)[:, 0]

    def _long_interest_by_keys(self, inputs: SequenceInputs, signals: LengthSignals) -> tf.Tensor:
        """The same with keys and values formed once a user, for all of his candidates."""
        positions, real = self.search.choose(inputs.target, inputs.history, inputs.mask)
        prompts = 0 if signals.prompts is None else signals.prompts.shape[1]
        positions, real = put_prompts_first(positions, real, prompts)
        slots, _ = signals.prepend(inputs.history, inputs.mask)
        return self.long_attention.attend_to_chosen(
            inputs.target,
            self.long_attention.encode_history(slots),
            positions,
            real,
            signals.length,
            signals.vector,
        )
