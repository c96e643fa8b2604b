"""Positions and LENS on a latent-query backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.config import Position, TargetConditioning
from models.layers.condition_source import ConditionSource
from models.layers.config import ConditionKind, plain, read
from models.layers.position_bias import PositionBias
from models.layers.position_embedding import PositionEmbedding
from models.layers.sublayers import build_sublayer, most_recent, product_of_rows, size_of
from models.layers.target_position_bias import TargetPositionBias
from models.layers.target_query_gate import TargetQueryGate
from models.layers.windows import (
    PositionFactors,
    events_after,
    has_windows,
    join_factors,
    window_bias,
)


@keras.utils.register_keras_serializable(package="lengthwise")
class TargetPositions(keras.layers.Layer):
    """Gives the condition vector, gated queries and a position bias for each attention layer.

    Args:
        conditioning: ``TargetConditioning``.
        queries: number of queries, of all histories together.
        layers: number of attention layers.
        histories: histories that the queries are split among, each with positions of its own.

    Call arguments:
        target: item vector of the candidate, [rows, dim].
        items: item vectors of all events, [users, items, dim].
        items_mask: true where there is an event, bool [users, items]; or windows, bool [users,
            candidates, items], of a single history that ``items`` are the events of.
        events: events of each history without prompts, [users, length, dim].

    Returns:
        for each attention layer and each history, [rows or 1, queries of the history, length]
        or None.

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(
        self,
        conditioning: TargetConditioning,
        queries: int,
        layers: int,
        histories: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conditioning = read(TargetConditioning, conditioning)
        self.queries = queries
        self.layers = layers
        self.histories = histories
        parts = layers * histories
        own_queries = queries // histories
        on = self.conditioning
        self.source = None
        if on.query_gate or on.position_bias:
            self.source = ConditionSource(
                on.source,
                samples_per_item=on.samples_per_item,
                crossover=on.crossover,
                name="condition",
            )
        self.embeddings: list[Any] = []
        if on.position is Position.ABSOLUTE:
            self.embeddings = [
                PositionEmbedding(on.max_length, name=f"position_embedding_{index}")
                for index in range(histories)
            ]
        # Of each layer those of all histories, then of the next layer.
        self.position_biases: list[Any] = []
        if on.position in (Position.GLOBAL, Position.QUERY_SPECIFIC):
            self.position_biases = [
                PositionBias(
                    on.position.value,
                    max_length=on.max_length,
                    queries=own_queries,
                    name=f"position_bias_{part}",
                )
                for part in range(parts)
            ]
        self.target_biases: list[Any] = []
        if on.position_bias:
            self.target_biases = [
                TargetPositionBias(
                    own_queries, on.max_length, on.rank, name=f"target_position_bias_{part}"
                )
                for part in range(parts)
            ]

    def build(self, input_shape: Any) -> None:
        """Makes the gate, which needs the width of the condition, and all biases' weights."""
        width = int(input_shape[-1])
        if self.source is not None and self.source.resolved is ConditionKind.ITEM_AND_SEQUENCE:
            width *= 2
        self.gate = None
        if self.conditioning.query_gate and self.source is not None:
            self.gate = TargetQueryGate(width, name="query_gate")
        for bias in (*self.position_biases, *self.target_biases):
            build_sublayer(bias, (None, width))
        super().build(input_shape)

    def call(
        self,
        target: tf.Tensor,
        items: tf.Tensor,
        items_mask: tf.Tensor,
        events: Sequence[tf.Tensor],
    ) -> list[list[tf.Tensor | None]]:
        """Returns the biases of each attention layer and history."""
        condition = self.condition(target, items, items_mask)
        if has_windows(items_mask):
            return self._window_biases(condition, items_mask)
        biases: list[list[tf.Tensor | None]] = []
        for layer in range(self.layers):
            of_layer: list[tf.Tensor | None] = []
            for index, history in enumerate(events):
                of_layer.append(self._bias(layer * self.histories + index, condition, history))
            biases.append(of_layer)
        return biases

    def condition(
        self, target: tf.Tensor, items: tf.Tensor, items_mask: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns the condition vector [rows, condition_dim], None where nothing reads it."""
        return None if self.source is None else self.source(target, items, items_mask)

    def gate_queries(
        self, queries: tf.Tensor, target: tf.Tensor, items: tf.Tensor, items_mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns the initial queries [rows, queries, dim], gated if so configured."""
        if self.gate is None:
            return queries
        return self.gate(queries, self.condition(target, items, items_mask))

    def embed(self, history: tf.Tensor, index: int = 0) -> tf.Tensor:
        """Returns the events of a history with absolute positions added, if so configured."""
        return self.embeddings[index](history) if self.embeddings else history

    def _window_biases(
        self, condition: tf.Tensor | None, windows: tf.Tensor
    ) -> list[list[tf.Tensor | None]]:
        """Returns the biases of each attention layer, by the distance from the window's end."""
        if not self.position_biases and not self.target_biases:
            return [[None]] * self.layers
        after, length = events_after(windows), tf.shape(windows)[-1]
        return [
            [window_bias(self._factors(layer, condition), after, length)]
            for layer in range(self.layers)
        ]

    def _bias(self, part: int, condition: tf.Tensor | None, history: tf.Tensor) -> tf.Tensor | None:
        """Returns the bias [rows or 1, queries, length] of one layer and history."""
        if not self.target_biases:
            return self.position_biases[part](history) if self.position_biases else None
        # One product: the sum of two would be passes over the largest tensors of all.
        multipliers, table = join_factors(self._factors(part, condition), tf.shape(condition)[0])
        recent = most_recent(table, size_of(history, 1), self.name)  # [length, factors]
        return product_of_rows(multipliers, recent, transpose=True)

    def _factors(self, part: int, condition: tf.Tensor | None) -> list[PositionFactors]:
        factors = [bias.factors() for bias in self.position_biases[part : part + 1]]
        return factors + [bias.factors(condition) for bias in self.target_biases[part : part + 1]]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "conditioning": plain(self.conditioning),
            "queries": self.queries,
            "layers": self.layers,
            "histories": self.histories,
        }
