"""Packs transformed examples: consecutive impressions of a user share one list of events.

A packed example holds a run of impressions. Its history lists are the events that any of them
sees, once and oldest first; what an unpacked example has one value of is a list with a value an
impression (``fields`` and ``numbers`` one after the other), but for ``user_group``, which they
share; and ``window_start`` and ``window_end`` say which events each impression sees.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.plan import USER_GROUP, WINDOW_END, WINDOW_START
from schemas import features


def pack(batch: pa.RecordBatch, totals: np.ndarray, limit: int) -> pa.RecordBatch:
    """Packs the rows of a batch.

    The number of events that were known before an impression places its history in the life of the
    user: it ends there. Rows are packed while they are of one user and each history begins and ends
    no earlier than that of the row before and leaves no gap. Whether the events agree is checked,
    and rows where they do not are left alone.

    Args:
        batch: transformed examples in columns of lists, those of a user one after another in order
            of time.
        totals: ``history_length_total`` of each row, int64 [rows].
        limit: impressions that a packed example holds at most.

    Returns:
        Packed examples in columns of lists.
    """
    histories = [name for name in batch.schema.names if name.startswith(features.HISTORY_PREFIX)]
    lengths = np.diff(_offsets(batch.column(histories[0])))
    is_first = _first_rows(_values(batch.column(USER_GROUP)), totals - lengths, totals, limit)
    while True:
        runs = _Runs(is_first, totals - lengths, totals)
        wrong = np.zeros(len(totals), bool)
        unions = {}
        for name in histories:
            values = _values(batch.column(name))
            unions[name] = values[runs.kept]
            wrong |= runs.differs(unions[name], values)
        if not wrong.any():
            break
        of_wrong_run = np.logical_or.reduceat(wrong, runs.first)[runs.run]
        is_first = is_first | of_wrong_run
    columns = {
        WINDOW_START: _lists(runs.start, runs.bounds),
        WINDOW_END: _lists(runs.end, runs.bounds),
        USER_GROUP: batch.column(USER_GROUP).take(pa.array(runs.first)),
        **{name: _lists(values, runs.union_offsets) for name, values in unions.items()},
    }
    for name in batch.schema.names:
        if name not in columns:
            column = batch.column(name)
            columns[name] = _lists(_values(column), _offsets(column)[runs.bounds])
    return pa.record_batch(columns)


class _Runs:
    """Runs of rows and the events that they share.

    Args:
        is_first: whether a run begins at each row.
        start: place of each row's first event in the life of its user.
        end: one past the place of its last.
    """

    def __init__(self, is_first: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        self.first = np.flatnonzero(is_first)
        self.run = np.cumsum(is_first) - 1
        self.bounds = np.append(self.first, len(start))
        origin = start[self.first][self.run]
        self.start, self.end = start - origin, end - origin
        # A row adds to the shared events what comes after the events of the row before.
        known = np.where(is_first, start, np.roll(end, 1))
        lengths, added = end - start, end - known
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._event_row = np.repeat(np.arange(len(start)), lengths)
        self._event_place = np.arange(offsets[-1]) - offsets[self._event_row]
        self.kept = self._event_place >= (lengths - added)[self._event_row]
        self.union_offsets = np.concatenate([[0], np.cumsum(added)])[self.bounds]

    def differs(self, union: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Tells for each row whether its window of the union is another list than its own."""
        begin = self.union_offsets[self.run] + self.start
        shared = union[begin[self._event_row] + self._event_place]
        return np.bincount(self._event_row[shared != values], minlength=len(self.start)) > 0


def _first_rows(user: np.ndarray, start: np.ndarray, end: np.ndarray, limit: int) -> np.ndarray:
    """Tells at which rows a run begins."""
    begins = np.ones(len(user), bool)
    begins[1:] = (
        (user[1:] != user[:-1])
        | (start[1:] < start[:-1])
        | (end[1:] < end[:-1])
        | (start[1:] > end[:-1])
        | (start[1:] < 0)
    )
    row = np.arange(len(user))
    begin = np.maximum.accumulate(np.where(begins, row, 0))
    return (row - begin) % limit == 0


def _offsets(column: pa.LargeListArray) -> np.ndarray:
    return np.asarray(column.offsets)


def _values(column: pa.LargeListArray) -> np.ndarray:
    return np.asarray(column.flatten())


def _lists(values: np.ndarray, offsets: np.ndarray) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
