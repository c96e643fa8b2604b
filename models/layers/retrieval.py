"""Picking the best-scored events of a history."""

from __future__ import annotations

import tensorflow as tf


def top_k_events(scores: tf.Tensor, mask: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the positions of the ``count`` best real events.

    Of equal scores the more recent event wins, whatever the padding. The choice has no gradient.

    Args:
        scores: ``[..., length]``.
        mask: broadcastable to ``scores``, true at real events.
        count: events to pick; all of a shorter history.

    Returns:
        positions ``[..., min(count, length)]`` int32, and whether each is a real event: where
        there are fewer than ``count``, the rest are false and must not be read.
    """
    length = tf.shape(scores)[-1]
    real = tf.broadcast_to(tf.cast(mask, tf.bool), tf.shape(scores))
    ranked = tf.where(real, tf.cast(tf.stop_gradient(scores), tf.float32), -float("inf"))
    # top_k prefers the lower index among equals, and the most recent event is the last.
    found = tf.math.top_k(tf.reverse(ranked, [-1]), k=tf.minimum(count, length))
    return length - 1 - found.indices, tf.math.is_finite(found.values)


def gather_events(history: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns ``[batch, ..., dim]`` of ``history [batch, length, dim]`` at ``[batch, ...]``."""
    return tf.gather(history, positions, axis=1, batch_dims=1)
