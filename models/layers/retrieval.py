"""Picking the best-scored events of a history."""

from __future__ import annotations

import tensorflow as tf

# From so many events for each that is wanted, sorting out the hopeless ones first is worth its
# passes over the scores.
_MANY_TIMES_COUNT = 16


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
    time, so the keys are turned round instead of them, the hopeless are left out, and the best are
    not sorted.

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

    def among_all() -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.math.top_k(ranked, k=tf.minimum(count, length), sorted=False)
        return found.indices, found.values

    def among_contenders() -> tuple[tf.Tensor, tf.Tensor]:
        values, positions = _contenders(ranked, count)
        found = tf.math.top_k(values, k=count, sorted=False)
        leading = positions.shape.rank - 1
        return tf.gather(positions, found.indices, batch_dims=leading), found.values

    indices, values = tf.cond(length >= _MANY_TIMES_COUNT * count, among_contenders, among_all)
    return length - 1 - indices, tf.math.is_finite(values)


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
        is_long = tf.shape(scores)[-1] >= _MANY_TIMES_COUNT * count
        values = tf.cond(is_long, lambda: _contenders(ranked, count)[0], lambda: ranked)
        worst = tf.raw_ops.NthElement(input=values, n=count - 1, reverse=True)[..., tf.newaxis]
        worst = tf.maximum(worst, ranked.dtype.min)  # what is not real has less
        chosen = ranked >= worst
        found = tf.reduce_sum(tf.cast(values >= worst, tf.int32), axis=-1)

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


def _contenders(ranked: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the few scores of each row that can be among its best ``count``, in order.

    The events are put into ``2 * count`` groups. ``count`` groups have a best score no less than
    the ``count``-th of these best scores, so so many events are as good as it, and whatever is
    less is not among the best.

    Args:
        ranked: float32 ``[..., length]``, minus infinity where there is no real event; length at
            least ``2 * count``.
        count: events that are wanted.

    Returns:
        scores ``[..., contenders]``, at least ``count``, filled up with minus infinity, and their
        positions, int32.
    """
    sizes = tf.shape(ranked)
    groups = 2 * count
    rows = tf.reshape(ranked, [-1, sizes[-1]])
    each = sizes[-1] // groups
    # Groups of events that stand apart: neighbours are alike, and padding is at one end.
    best = tf.reduce_max(tf.reshape(rows[:, : each * groups], [-1, each, groups]), axis=1)
    bound = tf.raw_ops.NthElement(input=best, n=count - 1, reverse=True)[:, tf.newaxis]
    places = tf.where(rows >= tf.maximum(bound, ranked.dtype.min))
    scores = tf.RaggedTensor.from_value_rowids(
        tf.gather_nd(rows, places),
        places[:, 0],
        nrows=tf.shape(rows, tf.int64)[0],
        validate=False,
    )
    positions = scores.with_values(tf.cast(places[:, 1], tf.int32))

    def to_dense(ragged: tf.RaggedTensor, filling: float) -> tf.Tensor:
        dense = ragged.to_tensor(filling)
        missing = tf.maximum(count - tf.shape(dense)[1], 0)
        dense = tf.pad(dense, [[0, 0], [0, missing]], constant_values=filling)
        shape = tf.concat([sizes[:-1], tf.shape(dense)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(dense, shape), [*ranked.shape[:-1], None])

    return to_dense(scores, -float("inf")), to_dense(positions, 0)


def gather_events(history: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns ``[batch, ..., dim]`` of ``history [batch, length, dim]`` at ``[batch, ...]``."""
    return tf.gather(history, positions, axis=1, batch_dims=1)
