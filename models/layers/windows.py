"""Several impressions that see windows of one list of events.

Events of a user stand once, right-aligned, ``[users, length, dim]``; a mask ``[users, candidates,
length]`` says which of them each impression sees: a window without holes, whose last event is the
impression's most recent one. Positions therefore count from the window's end, not the list's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from models.layers.candidates import ungroup

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
    """Mean over each window's events, by a product that reads the events once.

    Args:
        values: ``[users, length, dim]``; finite where there is no event.
        windows: bool ``[users, candidates, length]``; or one window a user, ``[users, length]``.

    Returns:
        ``[users * candidates, dim]`` in the type of ``values``; 0 for an empty window.
    """
    if not has_windows(windows):
        windows = windows[:, tf.newaxis]
    weights = tf.cast(windows, tf.float32)
    count = tf.reduce_sum(weights, axis=-1, keepdims=True)
    total = tf.matmul(weights, tf.cast(values, tf.float32))  # [users, candidates, dim]
    return tf.cast(ungroup(total / tf.maximum(count, 1.0)), values.dtype)


def join_factors(factors: Sequence[PositionFactors], rows: tf.Tensor) -> PositionFactors:
    """Returns the sum of biases as one product.

    Args:
        factors: of equally many queries and positions.
        rows: scalar, rows of the multipliers.
    """
    dtype = factors[-1].multipliers.dtype
    multipliers = [
        tf.broadcast_to(
            tf.cast(part.multipliers, dtype),
            tf.concat([[rows], tf.shape(part.multipliers)[1:]], axis=0),
        )
        for part in factors
    ]
    tables = [tf.cast(part.table, dtype) for part in factors]
    return PositionFactors(tf.concat(multipliers, axis=-1), tf.concat(tables, axis=-1))


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
    multipliers, table = join_factors(factors, tf.shape(after)[0])
    # Few windows of a batch end at different distances, so the table is laid out once for each
    # distance, and a row then copies, and in the gradient adds up, one block.
    distances = tf.range(tf.reduce_max(tf.concat([after, [0]], axis=0)) + 1)
    positions = tf.shape(table)[0]
    columns = tf.range(length) + positions - length
    index = columns[tf.newaxis] + distances[:, tf.newaxis]
    by_distance = tf.gather(table, tf.clip_by_value(index, 0, positions - 1))
    return tf.matmul(multipliers, tf.gather(by_distance, after), transpose_b=True)


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
