"""The general search unit of SIM, by learned scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, ungroup
from models.layers.retrieval import gather_events, top_k_events, top_k_for_candidates
from models.layers.sublayers import require_at_least


class SearchedEvents(NamedTuple):
    """Events picked for each target, and the sum that trains the search.

    Attributes:
        events: ``[rows, count, dim]``.
        event_mask: ``[rows, count]`` bool, false where a history had fewer events.
        positions: ``[rows, count]`` int32, in the padded history.
        pooled: ``[rows, dim]``, all real events weighed by their scores.
    """

    events: tf.Tensor
    event_mask: tf.Tensor
    positions: tf.Tensor
    pooled: tf.Tensor


@keras.utils.register_keras_serializable(package="lengthwise")
class SoftSearch(keras.layers.Layer):
    """Scores a long history by a learned product and keeps the best events.

    Formula::

        r_j    = (t W_a) . (s_j W_b)
        pooled = sum_j r_j s_j                 over real events, no softmax
        picked = the ``count`` events of highest r_j

    The choice has no gradient: W_a and W_b learn from an auxiliary prediction made of ``pooled``.
    ``(t W_a W_b^T) . s_j`` is computed, so that keys are not formed. Of equal scores the more
    recent event wins.

    Args:
        search_dim: int, width of the product.
        count: int, events to keep, default 50.

    Call arguments:
        target: ``[rows, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of a user
            in consecutive rows.
        history: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events.

    Returns:
        ``SearchedEvents`` of ``min(count, length)`` events for each target row.

    Padding is never retrieved and not pooled: with fewer events than ``count``, and at length 0,
    the surplus is masked.

    Example:

    >>> search = SoftSearch(search_dim=4, count=3)
    >>> found = search(tf.ones([2, 8]), tf.ones([2, 5, 8]), tf.ones([2, 5], tf.bool))
    >>> found.events.shape, found.pooled.shape
    (TensorShape([2, 3, 8]), TensorShape([2, 8]))

    Reference: SIM (soft search), arXiv 2006.05639.
    """

    def __init__(self, search_dim: int, count: int = 50, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least("search_dim", search_dim, 1)
        require_at_least("count", count, 1)
        self.search_dim = search_dim
        self.count = count

    def build(self, input_shape: Any) -> None:
        """Makes the two projections."""
        shape = (input_shape[-1], self.search_dim)
        self.target_kernel = self.add_weight(
            name="target_kernel", shape=shape, initializer="glorot_uniform"
        )
        self.event_kernel = self.add_weight(
            name="event_kernel", shape=shape, initializer="glorot_uniform"
        )
        super().build(input_shape)

    def scores(self, target: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
        """Returns ``[batch, candidates, length]`` float32, padding included."""
        folded = self._fold(target, tf.shape(history)[0])
        return tf.cast(tf.matmul(folded, history, transpose_b=True), tf.float32)

    def choose(
        self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the positions of the best events in any order, and whether each is real.

        For many candidates a user: both are ``[rows, min(count, length)]``.
        """
        target, history = (tf.cast(part, self.compute_dtype) for part in (target, history))
        folded = self._fold(target, tf.shape(history)[0])
        real = tf.cast(event_mask, tf.bool)[:, None]
        positions, kept = top_k_for_candidates(folded, history, real, self.count)
        return ungroup(positions), ungroup(kept)

    def call(self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor) -> SearchedEvents:
        """Returns the best events for each target."""
        target, history = (tf.cast(part, self.compute_dtype) for part in (target, history))
        real = tf.cast(event_mask, tf.bool)[:, None]
        scores = self.scores(target, history)
        positions, kept = top_k_events(scores, real, self.count)
        # A sum over a thousand events leaves float16 soon.
        weights = tf.where(real, scores, 0.0)
        pooled = tf.matmul(weights, tf.cast(history, tf.float32))
        return SearchedEvents(
            events=ungroup(gather_events(history, positions)),
            event_mask=ungroup(kept),
            positions=ungroup(positions),
            pooled=tf.cast(ungroup(pooled), target.dtype),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "search_dim": self.search_dim, "count": self.count}

    def _fold(self, target: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
        """Returns ``[batch, candidates, dim]``, whose product with an event is its score."""
        projected = tf.matmul(target, tf.cast(self.target_kernel, target.dtype))
        event_kernel = tf.cast(self.event_kernel, target.dtype)
        return group_by_user(tf.matmul(projected, event_kernel, transpose_b=True), users)
