"""Groups of rows of like length, each padded to its longest row."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Places that a batch may be cut at, evenly over its rows in order of length. With so many, the
# padding on log-normal lengths is within a percent of that of the best cuts of all.
PLACES = 128


class LengthGroups(NamedTuple):
    """A batch in groups.

    Attributes:
        order: the rows in order of their length, int32 [rows].
        cuts: where each group begins in that order, and ``rows`` last, int32 [groups + 1].
    """

    order: tf.Tensor
    cuts: tf.Tensor

    def rows(self, group: int) -> tf.Tensor:
        """Returns the rows of a group, int32 [rows of the group]; there may be none."""
        return self.order[self.cuts[group] : self.cuts[group + 1]]


def cut_by_length(lengths: tf.Tensor, groups: int) -> LengthGroups:
    """Cuts the rows of a batch, in order of length, where the groups have the least padding.

    Of the ways to cut at ``PLACES`` the cheapest is found by dynamic programming: the best ``g``
    groups of the first rows are the best ``g - 1`` groups of fewer rows and one more group.

    Args:
        lengths: events of each row, an integer type, [rows].
        groups: number of groups, some of which may be empty.
    """
    rows = tf.size(lengths)
    order = tf.argsort(lengths, stable=True)
    if groups == 1:
        return LengthGroups(order, tf.stack([0, rows]))
    places = rows * tf.range(PLACES + 1) // PLACES
    ordered = tf.concat([[1], tf.gather(tf.cast(lengths, tf.int32), order)], axis=0)
    longest = tf.maximum(tf.gather(ordered, places), 1)  # of the rows before each place
    # Positions of a group from one place to another; the triangle below is of no group.
    positions = (places - places[:, tf.newaxis]) * longest
    is_group = places >= places[:, tf.newaxis]
    positions = tf.where(is_group, tf.cast(positions, tf.float32), float("inf"))
    least = positions[0]
    begins = []
    for _ in range(groups - 1):
        sums = least[:, tf.newaxis] + positions  # [place the last group begins at, its end]
        begins.append(tf.argmin(sums, axis=0, output_type=tf.int32))
        least = tf.reduce_min(sums, axis=0)
    chosen = [tf.constant(PLACES)]
    for begin in reversed(begins):
        chosen.append(begin[chosen[-1]])
    chosen.append(tf.constant(0))
    return LengthGroups(order, tf.gather(places, tf.stack(chosen[::-1])))


def padded_events(lengths: tf.Tensor, groups: int) -> tf.Tensor:
    """Counts the positions that a batch of histories takes in its groups, int64.

    Args:
        lengths: events of each row, int64 [rows].
        groups: number of groups; each is padded to its longest row, to one event at least.
    """
    order, cuts = cut_by_length(lengths, groups)
    ordered = tf.concat([tf.gather(lengths, order), tf.zeros([1], tf.int64)], axis=0)
    longest = tf.gather(ordered, tf.maximum(cuts[1:] - 1, 0))
    return tf.reduce_sum(tf.cast(cuts[1:] - cuts[:-1], tf.int64) * tf.maximum(longest, 1))
