"""The condition vector of target-conditioned layers."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import repeat_for_candidates
from models.layers.config import ConditionKind, choose_condition
from models.layers.windows import window_mean


@keras.utils.register_keras_serializable(package="lengthwise")
class ConditionSource(keras.layers.Layer):
    """Builds the vector that a target-conditioned gate and position bias read.

    Formula::

        item:               c = t
        item_and_sequence:  c = [t ; masked_mean(S)]
        auto:               item if samples_per_item > crossover, else item_and_sequence

    S are the raw item embeddings of the history, before key and value projections and before
    action embeddings. Gradients flow into both t and S.

    Args:
        source: ``ConditionKind``, default ``auto``.
        samples_per_item: float or None, training samples over vocabulary size; needed by ``auto``.
        crossover: float, samples per item above which the item is enough, default 50.

    Call arguments:
        target: ``[batch, dim]``; or ``[batch * candidates, dim]``, the candidates of a user in
            consecutive rows.
        history: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events.

    Returns:
        ``[batch * candidates, condition_dim]``, of width ``dim`` or ``2 * dim``.

    Padding takes no part in the mean; a row of length 0 has a mean of zero.

    Example:

    >>> source = ConditionSource("auto", samples_per_item=1.1)
    >>> source(tf.zeros([2, 8]), tf.zeros([2, 5, 8]), tf.ones([2, 5], tf.bool)).shape
    TensorShape([2, 16])

    Reference: LENS, arXiv 2605.25583.
    """

    def __init__(
        self,
        source: ConditionKind | str = ConditionKind.AUTO,
        *,
        samples_per_item: float | None = None,
        crossover: float = 50.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = ConditionKind(source)
        self.samples_per_item = samples_per_item
        self.crossover = crossover
        self.resolved = choose_condition(self.source, samples_per_item, crossover)

    def call(self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor) -> tf.Tensor:
        """Returns the condition vector of each target."""
        if self.resolved is ConditionKind.ITEM:
            return tf.identity(target)
        mean = window_mean(history, tf.cast(event_mask, tf.bool))
        mean = repeat_for_candidates(tf.cast(mean, target.dtype), target)
        return tf.concat([target, mean], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "source": self.source.value,
            "samples_per_item": self.samples_per_item,
            "crossover": self.crossover,
        }
