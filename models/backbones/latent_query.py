"""What HyFormer, MixFormer and OneTrans share: LAIN and LENS around their blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.config import LengthAdaptation, TargetConditioning
from models.backbones.length_context import LengthContext, LengthSignals
from models.backbones.target_positions import TargetPositions
from models.layers.config import LengthModulation, plain, read


class Surroundings(NamedTuple):
    """What the blocks of a latent-query backbone work on.

    Attributes:
        queries: gated, [rows, queries, dim].
        events: of each history, with positions and prompts, [users, slots, event_dim].
        masks: true at events and prompts, of each history, bool [users, slots].
        biases: of each layer and history, [rows or 1, queries, length] or None.
        signals: what the length adds.
    """

    queries: tf.Tensor
    events: list[tf.Tensor]
    masks: list[tf.Tensor]
    biases: list[list[tf.Tensor | None]]
    signals: LengthSignals


class LatentQueryBackbone(keras.layers.Layer):
    """Base of the backbones whose queries, one for each latent, head or token, read the history.

    Args:
        conditioning: ``TargetConditioning`` or None: positions and LENS.
        adaptation: ``LengthAdaptation`` or None: LAIN. Prompts get no position bias.
    """

    def __init__(
        self,
        conditioning: TargetConditioning | None = None,
        adaptation: LengthAdaptation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conditioning = None if conditioning is None else read(TargetConditioning, conditioning)
        self.adaptation = None if adaptation is None else read(LengthAdaptation, adaptation)
        self.positions: TargetPositions | None = None
        self.context: LengthContext | None = None

    @property
    def modulation(self) -> LengthModulation | None:
        """What the blocks' attention needs to know of LAIN."""
        return None if self.adaptation is None else self.adaptation.modulation

    def make_surroundings(
        self, queries: int, layers: int, event_dim: int, histories: int = 1
    ) -> None:
        """Makes the parts of LAIN and LENS; part of ``build``."""
        if self.conditioning is not None:
            self.positions = TargetPositions(
                self.conditioning, queries, layers, histories, name="target_positions"
            )
        if self.adaptation is not None:
            self.context = LengthContext(self.adaptation, event_dim, name="length_context")

    def surround(
        self,
        inputs: SequenceInputs,
        events: Sequence[tf.Tensor],
        queries: tf.Tensor,
        layers: int,
        training: bool | None = None,
    ) -> Surroundings:
        """Applies positions, gate and prompts.

        Args:
            inputs: of the backbone; its ``items`` are what the condition vector averages.
            events: projected events of the first history, and of the second if it is read,
                [users, length, event_dim].
            queries: initial queries, [rows, queries, dim].
            layers: attention layers.
            training: whether the length encoder's dropout is on.
        """
        slots, masks, signals = self.surround_history(inputs, events, training)
        queries, biases = self.surround_queries(inputs, events, queries, layers)
        return Surroundings(
            queries=queries, events=slots, masks=masks, biases=biases, signals=signals
        )

    def surround_history(
        self, inputs: SequenceInputs, events: Sequence[tf.Tensor], training: bool | None = None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], LengthSignals]:
        """Returns what does not depend on the target: slots, their masks, and signals."""
        if self.positions is not None:
            events = [self.positions.embed(part, index) for index, part in enumerate(events)]
        signals = LengthSignals()
        if self.context is not None:
            signals = self.context(inputs.length, training=training)
        masks = (inputs.mask, inputs.second_mask)
        pairs = [signals.prepend(*pair) for pair in zip(events, masks, strict=False)]
        return [part for part, _ in pairs], [mask for _, mask in pairs], signals

    def surround_queries(
        self, inputs: SequenceInputs, events: Sequence[tf.Tensor], queries: tf.Tensor, layers: int
    ) -> tuple[tf.Tensor, list[list[tf.Tensor | None]]]:
        """Returns the gated queries, and the biases of each layer and history."""
        if self.positions is None:
            return queries, [[None] * len(events)] * layers
        sources = (inputs.target, inputs.items, inputs.items_mask)
        biases = self.positions(*sources, events)
        return self.positions.gate_queries(queries, *sources), biases

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "conditioning": plain(self.conditioning),
            "adaptation": plain(self.adaptation),
        }
