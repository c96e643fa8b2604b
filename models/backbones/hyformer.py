"""HyFormer: latent queries that read the history and mix, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.config import HyformerOptions, LengthAdaptation, TargetConditioning
from models.backbones.latent_query import LatentQueryBackbone
from models.layers.candidates import group_by_user, in_chunks, ungroup
from models.layers.config import HyformerBlockConfig, plain, read
from models.layers.hyformer_block import HyformerBlock
from models.layers.hyformer_query_generation import HyformerQueryGeneration
from models.layers.windows import has_windows, window_mean


@keras.utils.register_keras_serializable(package="lengthwise")
class HyformerBackbone(LatentQueryBackbone):
    """Interest = latent queries made of all fields, after reading the history in each block.

    With fields f, target t and events S (arXiv 2601.12681, in the form of LENS, 2605.25583)::

        S = S W        Q = QueryGeneration([f ; t ; mean(S)])       mean with sequence pooling
        X = side tokens split from [f ; t]                          with side tokens
        Q = Block(Q, S, X)   for each layer                         interest = flatten(Q)

    Args:
        options: ``HyformerOptions``.
        conditioning: ``TargetConditioning`` or None: positions and LENS.
        adaptation: ``LengthAdaptation`` or None: LAIN, its short branch being the only one.
        histories: 1 or 2; with two, each half of the queries reads its own, with projections and
            positions of its own, and mixing is joint.

    Inputs:
        :class:`~models.backbones.base.SequenceInputs`; target and fields may have a multiple of
        the history's rows, a user's candidates in consecutive rows.

    Output:
        [rows, queries * dim]. With a history of length 0 the queries follow from the fields.
    """

    def __init__(
        self,
        options: HyformerOptions,
        conditioning: TargetConditioning | None = None,
        adaptation: LengthAdaptation | None = None,
        histories: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(conditioning, adaptation, **kwargs)
        self.options = read(HyformerOptions, options)
        self.histories = histories

    def build(self, input_shape: Any) -> None:
        """Makes projections, blocks and what stands around them."""
        chosen = self.options
        self.projections = [
            keras.layers.Dense(chosen.dim, name=f"project_{index}")
            for index in range(self.histories)
        ]
        self.generation = HyformerQueryGeneration(
            chosen.queries,
            chosen.dim,
            pooled_dim=self.histories * chosen.dim if chosen.sequence_pooling else 0,
            name="query_generation",
        )
        self.side = None
        if chosen.side_tokens:
            self.side = keras.layers.Dense(chosen.side_tokens * chosen.dim, name="side_tokens")
        block = HyformerBlockConfig(
            heads=chosen.heads,
            histories=self.histories,
            side_tokens=chosen.side_tokens,
            per_query_feed_forward=chosen.per_query_feed_forward,
            mixing=chosen.mixing,
            encode_sequence=chosen.encode_sequence,
            dropout=chosen.dropout,
            modulation=self.modulation,
        )
        self.blocks = [
            HyformerBlock(block, name=f"block_{layer}") for layer in range(chosen.layers)
        ]
        self.make_surroundings(chosen.queries, chosen.layers, chosen.dim, self.histories)
        super().build(input_shape)

    def call(
        self,
        inputs: SequenceInputs,
        training: bool | None = None,
        shared_history: bool = False,
    ) -> tf.Tensor:
        """Reads the history with latent queries; see the class."""
        pairs = [(inputs.history, inputs.mask), (inputs.second, inputs.second_mask)]
        pairs = pairs[: self.histories]
        events = [project(part) for project, (part, _) in zip(self.projections, pairs, strict=True)]
        pooled = None
        if self.options.sequence_pooling:
            means = [window_mean(part, mask) for part, (_, mask) in zip(events, pairs, strict=True)]
            pooled = tf.concat(means, axis=-1)
        slots, masks, signals = self.surround_history(inputs, events, training)
        # Keys and values of each block, once for all candidates, or what few queries absorb.
        histories = [
            block.encode_history(slots) if shared_history else slots for block in self.blocks
        ]

        def read(target: tf.Tensor, non_sequence: tf.Tensor) -> tf.Tensor:
            """Returns the queries after all blocks, [rows, queries * dim]."""
            own = inputs._replace(target=target, non_sequence=non_sequence)
            fields = tf.concat([non_sequence, target], axis=-1)
            queries, biases = self.surround_queries(
                own, events, self.generation(fields, pooled), len(self.blocks)
            )
            side = None
            if self.side is not None:
                tokens = [-1, self.options.side_tokens, self.options.dim]
                side = tf.reshape(self.side(fields), tokens)
            for block, history, bias in zip(self.blocks, histories, biases, strict=True):
                queries = block(
                    queries, history, masks, side, bias, signals.length, signals.vector, training
                )
            return tf.reshape(queries, [-1, self.options.queries * self.options.dim])

        if training or not shared_history or has_windows(inputs.mask):
            return read(inputs.target, inputs.non_sequence)
        return self._read_in_chunks(inputs, read)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "options": plain(self.options), "histories": self.histories}

    def _read_in_chunks(
        self, inputs: SequenceInputs, read: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Reads for a few candidates of each user at a time, [rows, queries * dim]."""
        users, length = tf.shape(inputs.mask)[0], tf.shape(inputs.mask)[1]

        def read_some(target: tf.Tensor, non_sequence: tf.Tensor) -> tf.Tensor:
            return group_by_user(read(ungroup(target), ungroup(non_sequence)), users)

        sides = [group_by_user(part, users) for part in (inputs.target, inputs.non_sequence)]
        numbers = users * length * self.options.queries
        width = self.options.queries * self.options.dim
        return ungroup(in_chunks(read_some, sides, numbers, width))
