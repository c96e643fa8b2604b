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


def top_k_for_candidates(
    query: tf.Tensor, keys: tf.Tensor, mask: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the positions of the events whose keys score best with a query, in any order.

    It chooses as ``top_k_events`` does. Where candidates are many, the scores are what takes the
    time, so the keys are turned round instead of them, and the best are not sorted.

    Args:
        query: ``[..., candidates, width]``.
        keys: ``[..., length, width]``.
        mask: broadcastable to the scores ``[..., candidates, length]``, true at real events.
        count: events to pick; all of a shorter history.

    Returns:
        positions ``[..., candidates, min(count, length)]`` int32, and whether each is a real
        event.
    """
    length = tf.shape(keys)[-2]
    query, keys = tf.stop_gradient(query), tf.stop_gradient(keys)
    scores = tf.matmul(query, tf.reverse(keys, [-2]), transpose_b=True)
    bound = tf.where(tf.reverse(tf.cast(mask, tf.bool), [-1]), float("inf"), -float("inf"))
    ranked = tf.minimum(tf.cast(scores, tf.float32), bound)
    found = tf.math.top_k(ranked, k=tf.minimum(count, length), sorted=False)
    return length - 1 - found.indices, tf.math.is_finite(found.values)


def is_top_k(scores: tf.Tensor, mask: tf.Tensor, count: int) -> tf.Tensor:
    """Tells which events are among the ``count`` best real ones, as ``top_k_events`` chooses.

    Finding the worst of them takes less time than listing them, and what is marked can be read
    where it stands, which suits many candidates.

    Args:
        scores: ``[..., length]``.
        mask: broadcastable to ``scores``, true at real events.
        count: events to pick; all of a shorter history.

    Returns:
        bool ``[..., length]``.
    """
    mask = tf.cast(mask, tf.bool)
    bound = tf.where(mask, float("inf"), -float("inf"))
    ranked = tf.minimum(tf.cast(tf.stop_gradient(scores), tf.float32), bound)

    def choose() -> tf.Tensor:
        worst = tf.raw_ops.NthElement(input=ranked, n=count - 1, reverse=True)[..., tf.newaxis]
        chosen = tf.logical_and(ranked >= worst, mask)
        found = tf.reduce_sum(tf.cast(chosen, tf.int32), axis=-1)

        def most_recent() -> tf.Tensor:
            better = ranked > worst
            equal = tf.cast(tf.logical_and(chosen, tf.logical_not(better)), tf.int32)
            left = count - tf.reduce_sum(tf.cast(better, tf.int32), axis=-1, keepdims=True)
            from_end = tf.cumsum(equal, axis=-1, reverse=True)
            return tf.logical_or(better, tf.logical_and(equal > 0, from_end <= left))

        return tf.cond(tf.reduce_any(found > count), most_recent, lambda: chosen)

    return tf.cond(
        tf.shape(scores)[-1] > count,
        choose,
        lambda: tf.broadcast_to(mask, tf.shape(scores)),
    )


def gather_events(history: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns ``[batch, ..., dim]`` of ``history [batch, length, dim]`` at ``[batch, ...]``."""
    return tf.gather(history, positions, axis=1, batch_dims=1)
