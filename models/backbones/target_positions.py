"""Positions and LENS on a latent-query backbone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.backbones.config import Position, TargetConditioning
from models.layers.condition_source import ConditionSource
from models.layers.config import ConditionKind, plain, read
from models.layers.position_bias import PositionBias
from models.layers.position_embedding import PositionEmbedding
from models.layers.target_position_bias import TargetPositionBias
from models.layers.target_query_gate import TargetQueryGate


@keras.utils.register_keras_serializable(package="lengthwise")
class TargetPositions(keras.layers.Layer):
    """Gives the condition vector, gated queries and a position bias for each attention layer.

    Args:
        conditioning: ``TargetConditioning``.
        queries: number of queries.
        layers: number of attention layers.

    Inputs:
        target: item vector of the candidate, [rows, dim].
        history: item vectors of the events, [users, length, dim], prompts left out.
        mask: true where there is an event, bool [users, length].

    Output:
        the biases of each attention layer, [rows or 1, queries, length] or None.

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(
        self, conditioning: TargetConditioning, queries: int, layers: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.conditioning = read(TargetConditioning, conditioning)
        self.queries = queries
        self.layers = layers
        on = self.conditioning
        self.source = None
        if on.query_gate or on.position_bias:
            self.source = ConditionSource(
                on.source,
                samples_per_item=on.samples_per_item,
                crossover=on.crossover,
                name="condition",
            )
        self.embedding = None
        if on.position is Position.ABSOLUTE:
            self.embedding = PositionEmbedding(on.max_length, name="position_embedding")
        self.position_biases: list[Any] = []
        if on.position in (Position.GLOBAL, Position.QUERY_SPECIFIC):
            self.position_biases = [
                PositionBias(
                    on.position.value,
                    max_length=on.max_length,
                    queries=queries,
                    name=f"position_bias_{layer}",
                )
                for layer in range(layers)
            ]
        self.target_biases: list[Any] = []
        if on.position_bias:
            self.target_biases = [
                TargetPositionBias(
                    queries, on.max_length, on.rank, name=f"target_position_bias_{layer}"
                )
                for layer in range(layers)
            ]

    def build(self, input_shape: Any) -> None:
        """Makes the gate, which needs the width of the condition."""
        self.gate = None
        if self.conditioning.query_gate and self.source is not None:
            width = int(input_shape[-1])
            if self.source.resolved is ConditionKind.ITEM_AND_SEQUENCE:
                width *= 2
            self.gate = TargetQueryGate(width, name="query_gate")
        super().build(input_shape)

    def call(
        self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> list[tf.Tensor | None]:
        """Returns the biases of each attention layer."""
        condition = self.condition(target, history, event_mask)
        biases: list[tf.Tensor | None] = []
        for layer in range(self.layers):
            parts = [bias(history) for bias in self.position_biases[layer : layer + 1]]
            parts += [bias(condition, history) for bias in self.target_biases[layer : layer + 1]]
            biases.append(sum(parts[1:], parts[0]) if parts else None)
        return biases

    def condition(
        self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> tf.Tensor | None:
        """Returns the condition vector [rows, condition_dim], None where nothing reads it."""
        return None if self.source is None else self.source(target, history, event_mask)

    def gate_queries(
        self, queries: tf.Tensor, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns the initial queries [rows, queries, dim], gated if so configured."""
        if self.gate is None:
            return queries
        return self.gate(queries, self.condition(target, history, event_mask))

    def embed(self, history: tf.Tensor) -> tf.Tensor:
        """Returns the events with absolute positions added, if so configured."""
        return history if self.embedding is None else self.embedding(history)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "conditioning": plain(self.conditioning),
            "queries": self.queries,
            "layers": self.layers,
        }
