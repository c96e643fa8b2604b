"""Deep Interest Network: target attention over the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.config import LengthAdaptation
from models.backbones.length_context import LengthContext, LengthSignals
from models.layers.candidates import group_by_user, ungroup
from models.layers.config import AttentionActivation, conditioning_dim, plain, read
from models.layers.din_activation_unit import DinActivationUnit
from models.layers.length_conditioning import LengthConditioning
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.sublayers import build_sublayer
from models.layers.windows import has_windows


@keras.utils.register_keras_serializable(package="lengthwise")
class DinBackbone(keras.layers.Layer):
    """Interest = sum of the event vectors, weighted by their relevance to the target.

    With target t and events s (arXiv 1706.06978; the paper leaves the softmax out, here it is
    on, so that weights mean the same for short and long histories)::

        weight = softmax over events( activation unit(t, s) )
        interest = sum(weight * s)

    With a ``LengthAdaptation`` (LAIN, arXiv 2601.19142), prompts stand before the events, the unit
    reads ``[t ; e] W_q`` and ``[s ; e] W_k``, which start as the identity, and its logits are
    divided by the temperature; the sum is over the unconditioned prompts and events.

    Args:
        hidden_units: widths of the activation unit's hidden layers.
        adaptation: ``LengthAdaptation`` or None; its short branch is the only one.
        activation: of the activation unit, ``prelu`` or ``dice``.
        batch_norm: whether the activation unit normalises its hidden layers. The statistics of
            both options are over the events of all rows; prompts are no events.

    Inputs:
        :class:`~models.backbones.base.SequenceInputs`; target and fields may have a multiple of
        the history's rows, a user's candidates in consecutive rows.

    Output:
        [rows, dim]; without prompts 0 for a history of length 0.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64,),
        adaptation: LengthAdaptation | None = None,
        activation: AttentionActivation | str = AttentionActivation.PRELU,
        batch_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.adaptation = None if adaptation is None else read(LengthAdaptation, adaptation)
        self.activation = AttentionActivation(activation)
        self.batch_norm = batch_norm
        self.unit = DinActivationUnit(
            self.hidden_units, self.activation, batch_norm, name="activation_unit"
        )

    def build(self, input_shape: Any) -> None:
        """Builds the activation unit and the parts of the adaptation."""
        self.unit.build(input_shape[0])
        on = self.adaptation if self.adaptation and self.adaptation.short_branch else None
        dim = int(input_shape[0][-1])
        modulation = on.modulation if on else None
        length_dim = conditioning_dim(modulation)
        self.context = LengthContext(on, dim, name="length_context") if on else None
        self.temperature = make_temperature(modulation)
        self.query, self.key = (
            LengthConditioning(length_dim, name=name) if length_dim else None
            for name in ("query", "key")
        )
        if self.key is not None:
            build_sublayer(self.key, (None, None, dim))  # its kernel is read without a call
        super().build(input_shape)

    def call(
        self,
        inputs: SequenceInputs,
        training: bool | None = None,
        shared_history: bool = False,
    ) -> tf.Tensor:
        """Attends to the history; see the class."""
        weights, parts = self._attend(inputs, training, shared_history)
        sizes = [tf.shape(part)[1] for part in parts]
        read = [
            tf.matmul(tf.cast(own, part.dtype), part)
            for own, part in zip(tf.split(weights, sizes, axis=-1), parts, strict=True)
        ]
        return ungroup(sum(read[1:], read[0]))

    def attention(self, inputs: SequenceInputs) -> tf.Tensor:
        """Returns the weights of the events, float32 [rows, length]; prompts have the rest."""
        weights, _ = self._attend(inputs, training=False, shared_history=False)
        return ungroup(weights[..., tf.shape(weights)[-1] - tf.shape(inputs.mask)[1] :])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "adaptation": plain(self.adaptation),
            "activation": self.activation.value,
            "batch_norm": self.batch_norm,
        }

    def _attend(
        self, inputs: SequenceInputs, training: bool | None, shared_history: bool
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns weights [users, candidates, slots], and prompts and events that they are of."""
        signals = LengthSignals()
        if self.context is not None:
            signals = self.context(inputs.length, training=training)
        slots, mask = signals.prepend(inputs.history, inputs.mask)
        parts = [slots]
        if signals.prompts is not None and not self.unit.has_statistics:
            # Beside the events, not before them in one tensor: that would copy the events.
            parts = [tf.cast(signals.prompts, inputs.history.dtype), inputs.history]
        query = inputs.target if self.query is None else self.query(inputs.target, signals.vector)
        prompts = tf.shape(slots)[1] - tf.shape(inputs.history)[1]
        events = ungroup(inputs.mask) if has_windows(inputs.mask) else inputs.mask
        statistics = {
            "event_mask": tf.pad(events, [[0, 0], [prompts, 0]]),  # false for the prompts
            "training": training,
        }
        # Windows have statistics of each candidate, which are not cut into chunks.
        shared_history = shared_history and not has_windows(inputs.mask)
        scores = [
            self._score(query, part, signals.vector, statistics, shared_history) for part in parts
        ]
        logits = divide_by_temperature(
            group_by_user(tf.concat(scores, axis=-1), tf.shape(mask)[0]),
            self.temperature,
            signals.length,
            self.name,
        )
        seen = mask if has_windows(mask) else mask[:, tf.newaxis]
        return masked_softmax(logits, seen), parts

    def _score(
        self,
        query: tf.Tensor,
        events: tf.Tensor,
        length_vector: tf.Tensor | None,
        statistics: dict[str, Any],
        shared_history: bool,
    ) -> tf.Tensor:
        """Returns the activation unit's logits of events or prompts, [rows, slots]."""
        key = self.key
        in_chunks = shared_history and not statistics["training"]
        if key is None:
            return self.unit(query, events, in_chunks=in_chunks, **statistics)
        # Statistics of all devices cannot be taken within a branch.
        if shared_history or self.unit.has_statistics:
            return self.unit(query, key(events, length_vector), in_chunks=in_chunks, **statistics)
        # Exactly the same by fewer products: the key's projection goes into each row's matrix of
        # the unit where a row has more events than that matrix has columns.
        return tf.cond(
            tf.shape(events)[1] > self.hidden_units[0],
            lambda: self.unit(
                query,
                events,
                key_kernel=key.kernel,
                key_shift=key.shift(length_vector, events.dtype),
                **statistics,
            ),
            lambda: self.unit(query, key(events, length_vector), **statistics),
        )
