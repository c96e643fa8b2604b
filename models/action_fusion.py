"""Joins the action type of an event to its item vector."""

from __future__ import annotations

import tensorflow as tf

from models.config import ActionFusion


class ActionFusionLayer(tf.keras.layers.Layer):
    """Event vector from item vector and action type (LENS, arXiv 2605.25583).

    ``add``: e_item + e_action. ``concat``: Dense(Dense([e_item; e_action], ReLU)).

    Args:
        fusion: add or concat.
        action_types: number of action types; 0 stands for an unknown one.
        dim: width of the item vector.
        init_std: standard deviation of the normal that action embeddings start from.

    Inputs:
        Item vectors [rows, length, dim] and action ids int64 [rows, length], 0 or 1-based.

    Output:
        [rows, length, dim].
    """

    def __init__(
        self, fusion: ActionFusion, action_types: int, dim: int, init_std: float, name: str
    ) -> None:
        super().__init__(name=name)
        self.action_types = action_types
        self.table = self.add_weight(
            name="actions",
            shape=(action_types + 1, dim),
            initializer=tf.keras.initializers.RandomNormal(stddev=init_std),
            trainable=True,
        )
        self.mixer = None
        if fusion is ActionFusion.CONCAT:
            self.mixer = tf.keras.Sequential(
                [tf.keras.layers.Dense(dim, activation="relu"), tf.keras.layers.Dense(dim)],
                name="mixer",
            )

    def call(self, items: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Fuses; see the class."""
        # A request may name a type that the description does not have: it counts as unknown.
        known = (actions >= 0) & (actions <= self.action_types)
        ids = tf.where(known, actions, tf.zeros_like(actions))
        embedded = tf.gather(tf.cast(self.table, self.compute_dtype), ids)
        if self.mixer is None:
            return items + embedded
        return self.mixer(tf.concat([items, embedded], axis=-1))
