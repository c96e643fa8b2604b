"""Packed batches: the impressions of a record share one list of events.

A packed batch has a row an impression for target, fields and label, and a row a record for the
history lists. ``window_start`` and ``window_end``, ragged [records, impressions], say which of a
record's events each of its impressions sees, and so also which rows are whose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from models.alignment import right_aligned_mask
from models.backbones.config import Position
from models.capabilities import Backbone
from models.config import ModelConfig
from models.length_groups import cut_by_length
from models.plan import WINDOW_END, WINDOW_START

Features: TypeAlias = Mapping[str, tf.Tensor | tf.RaggedTensor]

_READ_WINDOWS = (Backbone.HYFORMER, Backbone.DIN, Backbone.TWIN)


def reads_windows(config: ModelConfig) -> bool:
    """Tells whether a model computes shared events once; else each impression gets its own.

    LAIN puts prompts of the impression's length before the events, absolute positions are added to
    the events, and a second history is cut out of the first by each impression: none can be shared.
    """
    return (
        config.backbone in _READ_WINDOWS
        and config.lain is None
        and config.position is not Position.ABSOLUTE
        and not config.second_history
    )


def is_packed(inputs: Features) -> bool:
    """Tells whether a batch is packed."""
    return WINDOW_END in inputs


class PackedGroup(NamedTuple):
    """Some records of a batch, with as many places for impressions as the fullest has.

    Attributes:
        records: which records, [records].
        rows: row of the batch at each place, 0 where there is none, [records * places].
        filled: which places have a row, bool [records * places].
        start: first event of each place's window, int64 [records, places].
        end: one past its last; an empty window where there is no row.
    """

    records: tf.Tensor
    rows: tf.Tensor
    filled: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor

    def spread(self, by_row: tf.Tensor) -> tf.Tensor:
        """Puts rows of the batch, [rows, ...], at their places, [records * places, ...]."""
        return tf.gather(by_row, self.rows)

    def windows(self, lengths: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        """Returns which columns of right-aligned records each place sees.

        Args:
            lengths: events of each record, [records].
            longest: columns.

        Returns:
            bool [records, places, longest].
        """
        offset = tf.cast(longest, tf.int64) - tf.cast(lengths, tf.int64)
        columns = tf.range(tf.cast(longest, tf.int64))
        begin, stop = (offset[:, tf.newaxis] + bound for bound in (self.start, self.end))
        return (columns >= begin[..., tf.newaxis]) & (columns < stop[..., tf.newaxis])


def make_groups(inputs: Features, lengths: tf.Tensor, groups: int) -> list[PackedGroup]:
    """Cuts a packed batch into groups of records of like length.

    Args:
        inputs: a packed batch.
        lengths: events of each record, [records].
        groups: number of groups.
    """
    start, end = inputs[WINDOW_START], inputs[WINDOW_END]
    rows = end.with_values(tf.range(tf.size(end.values, tf.int64)))
    cut = cut_by_length(lengths, groups)
    made = []
    for group in range(groups):
        records = cut.rows(group)
        places = tf.gather(rows, records).to_tensor(-1)
        flat = tf.reshape(places, [-1])
        made.append(
            PackedGroup(
                records=records,
                rows=tf.maximum(flat, 0),
                filled=flat >= 0,
                start=tf.gather(start, records).to_tensor(0),
                end=tf.gather(end, records).to_tensor(0),
            )
        )
    return made


def restore(groups: Sequence[PackedGroup], pieces: Sequence[tf.Tensor]) -> tf.Tensor:
    """Puts what each group gave, [records * places, ...], into the order of the rows."""
    found = [
        tf.boolean_mask(piece, group.filled) for group, piece in zip(groups, pieces, strict=True)
    ]
    rows = [tf.boolean_mask(group.rows, group.filled) for group in groups]
    back = tf.math.invert_permutation(tf.concat(rows, axis=0))
    return tf.gather(tf.concat(found, axis=0), back)


def unpack_history(events: tf.RaggedTensor, inputs: Features) -> tf.RaggedTensor:
    """Gives each impression events of its own.

    Args:
        events: [records, None].
        inputs: a packed batch.

    Returns:
        [rows, None]: of each impression's record the events in its window.
    """
    start, end = inputs[WINDOW_START], inputs[WINDOW_END]
    first = tf.gather(events.row_starts(), end.value_rowids())
    indices = tf.ragged.range(first + start.values, first + end.values)
    return indices.with_values(tf.gather(events.values, indices.values))


def packed_positions(inputs: Features, history: str, groups: int) -> tf.Tensor:
    """Counts the pairs of an impression and an event that the groups of a packed batch compute.

    Args:
        inputs: a packed batch.
        history: name of a history list.
        groups: number of groups.
    """
    lengths = inputs[history].row_lengths()
    total = tf.zeros([], tf.int64)
    for group in make_groups(inputs, lengths, groups):
        longest = tf.reduce_max(tf.concat([tf.gather(lengths, group.records), [1]], axis=0))
        total += longest * tf.size(group.rows, tf.int64)
    return total


def count_events(inputs: Features, history: str) -> tf.Tensor:
    """Returns the events that each row of a packed or unpacked batch sees, int64 [rows].

    Args:
        inputs: a batch.
        history: name of a history list.
    """
    if is_packed(inputs):
        return inputs[WINDOW_END].values - inputs[WINDOW_START].values
    return inputs[history].row_lengths()


def record_mask(lengths: tf.Tensor, longest: tf.Tensor, group: PackedGroup | None) -> tf.Tensor:
    """Returns the mask of right-aligned rows, or the windows of a packed group."""
    if group is None:
        return right_aligned_mask(lengths, longest)
    return group.windows(lengths, longest)
