"""Several impressions that see windows of one list of events.

Events of a user stand once, right-aligned, ``[users, length, dim]``; a mask ``[users, candidates,
length]`` says which of them each impression sees: a window without holes, whose last event is the
impression's most recent one. Positions therefore count from the window's end, not the list's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from models.layers.candidates import group_by_user, ungroup

# Finite, so that a row without events gives zeros and not NaN.
MASKED_LOGIT = -1e9


class PositionFactors(NamedTuple):
    """A position bias as a product, ``multipliers @ transpose(table)``.

    Attributes:
        multipliers: ``[rows or 1, queries, factors]``.
        table: ``[positions, factors]``, the last row the most recent event.
    """

    multipliers: tf.Tensor
    table: tf.Tensor


def has_windows(mask: tf.Tensor) -> bool:
    """Tells whether a mask of events is one of windows, ``[users, candidates, length]``."""
    return len(mask.shape) == 3


def events_after(windows: tf.Tensor) -> tf.Tensor:
    """Counts the columns after each window's end, int32 ``[users * candidates]``; 0 if it is empty.

    Args:
        windows: bool ``[users, candidates, length]``.
    """
    return tf.argmax(ungroup(tf.reverse(windows, axis=[-1])), axis=-1, output_type=tf.int32)


def window_mean(values: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """Mean over each window's events.

    Args:
        values: ``[users, length, dim]``; finite where there is no event.
        windows: bool ``[users, candidates, length]``.

    Returns:
        ``[users * candidates, dim]`` in the type of ``values``; 0 for an empty window.
    """
    weights = tf.cast(windows, tf.float32)
    count = tf.reduce_sum(weights, axis=-1, keepdims=True)
    total = tf.matmul(weights, tf.cast(values, tf.float32))  # [users, candidates, dim]
    return tf.cast(ungroup(total / tf.maximum(count, 1.0)), values.dtype)


def window_bias(
    factors: Sequence[PositionFactors], after: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """Lays position biases, which count from a window's end, over the columns of the list.

    Args:
        factors: biases of one attention, to be added up; tables of equally many positions.
        after: columns after each window's end, int32 ``[rows]``.
        length: columns.

    Returns:
        ``[rows, queries, length]``; columns that lie outside of all positions have any number.
    """
    dtype = factors[-1].multipliers.dtype
    table = tf.concat([tf.cast(part.table, dtype) for part in factors], axis=-1)
    rows = tf.shape(after)[0]
    multipliers = tf.concat(
        [
            tf.broadcast_to(
                tf.cast(part.multipliers, dtype),
                tf.concat([[rows], tf.shape(part.multipliers)[1:]], axis=0),
            )
            for part in factors
        ],
        axis=-1,
    )
    # Few windows of a batch end at different distances, so the table is laid out once for each
    # distance, and a row then copies, and in the gradient adds up, one block.
    distances = tf.range(tf.reduce_max(tf.concat([after, [0]], axis=0)) + 1)
    positions = tf.shape(table)[0]
    columns = tf.range(length) + positions - length
    index = columns[tf.newaxis] + distances[:, tf.newaxis]
    by_distance = tf.gather(table, tf.clip_by_value(index, 0, positions - 1))
    return tf.matmul(multipliers, tf.gather(by_distance, after), transpose_b=True)


def attend_windows(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    windows: tf.Tensor,
    bias: tf.Tensor | None = None,
    *,
    heads: int,
) -> tf.Tensor:
    """Attention to the events of windows: softmax over each window, then the mean of its values.

    With so many queries to one list the logits are what takes the time, so each pass over them
    counts: mask and bias are one addition, and heads run one after another, so that it is of two
    tensors of the same shape.

    Args:
        queries: ``[users, candidates * queries, heads * dim]``, scaled.
        keys: ``[users, length, heads * dim]``.
        values: ``[users, length, heads * dim]``.
        windows: bool ``[users, candidates, length]``.
        bias: None, or ``[users * candidates, queries, length]``.
        heads: number of heads.

    Returns:
        ``[users, candidates * queries, heads * dim]``; 0 for an empty window.
    """
    candidates, length = tf.shape(windows)[1], tf.shape(windows)[2]
    count = tf.shape(queries)[1] // tf.maximum(candidates, 1)
    added = tf.where(windows, 0.0, MASKED_LOGIT)[:, :, tf.newaxis]
    if bias is None:
        added = tf.repeat(added, count, axis=2)
    else:
        added += group_by_user(tf.cast(bias, tf.float32), tf.shape(windows)[0])
    added = tf.reshape(added, [-1, candidates * count, length])
    by_head = zip(
        *(tf.split(part, heads, axis=-1) for part in (queries, keys, values)), strict=True
    )
    read = tf.concat([_softmax_mean(*parts, added) for parts in by_head], axis=-1)
    is_seen = tf.repeat(tf.reduce_any(windows, axis=-1), count, axis=1)
    return read * tf.cast(is_seen, read.dtype)[..., tf.newaxis]


@tf.custom_gradient
def _softmax_mean(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, added: tf.Tensor) -> Any:
    """Softmax over the events of ``queries . keys + added``, and the mean of values by it.

    The gradient of the logits is ``weights * (dweights - sum(result * dresult))``. The sum comes
    from the result, which is short, instead of from the weights, and is taken away within the
    product that gives ``dweights``.
    """
    logits = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32) + added
    weights = tf.nn.softmax(logits)
    cast = tf.cast(weights, values.dtype)
    result = tf.matmul(cast, values)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        shared = tf.reduce_sum(result * upstream, axis=-1, keepdims=True)
        of_weights = tf.matmul(
            tf.concat([upstream, -shared], axis=-1),
            tf.concat([values, tf.ones_like(values[..., :1])], axis=-1),
            transpose_b=True,
        )
        of_logits = tf.cast(of_weights, tf.float32) * weights
        own = tf.cast(of_logits, queries.dtype)
        return (
            tf.matmul(own, keys),
            tf.matmul(own, queries, transpose_a=True),
            tf.matmul(cast, upstream, transpose_a=True),
            of_logits,
        )

    return result, gradient


def recent_events(
    history: tf.Tensor, windows: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts the most recent events out of each window.

    Args:
        history: ``[users, length, dim]``.
        windows: bool ``[users, candidates, length]``.
        count: events for each window; all of a shorter list.

    Returns:
        Right-aligned ``[users * candidates, min(count, length), dim]``, and which are events, bool
        ``[users * candidates, min(count, length)]``.
    """
    sizes = tf.shape(windows)
    width = tf.minimum(count, sizes[2])
    last = sizes[2] - tf.reshape(events_after(windows), sizes[:2])
    columns = last[..., tf.newaxis] - width + tf.range(width)  # [users, candidates, width]
    found = tf.maximum(columns, 0)
    mask = tf.gather(windows, found, batch_dims=2) & (columns >= 0)
    return ungroup(tf.gather(history, found, batch_dims=1)), ungroup(mask)
