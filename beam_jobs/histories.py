"""Point-in-time histories: for each impression the user's strictly earlier events, columnwise.

Everything here works on events sorted by user, time and item (see ``events``). A history is a
window [start, end) into the events that the protocol keeps, so no per-row work is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# One chunk of windows holds at most this many list entries: 100,000 events of one user with
# windows of 1,000 would be 10^8 entries at once.
ENTRIES_PER_CHUNK = 2_000_000
ROWS_PER_CHUNK = 20_000


@dataclass(frozen=True)
class Windows:
    """The histories of some rows of a shard.

    Attributes:
        start: first kept event of each row's history, as an index into the kept events.
        end: one past its last.
        total: events known before the row, whether or not they still fit.
    """

    start: np.ndarray
    end: np.ndarray
    total: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Events in each history."""
        return self.end - self.start


def history_windows(
    user: np.ndarray,
    moment: np.ndarray,
    kept: np.ndarray,
    rows: np.ndarray,
    max_length: int,
    known_before: np.ndarray,
) -> Windows:
    """Finds the history of each row: the last kept events of its user at strictly earlier moments.

    Args:
        user: user codes of all events, sorted.
        moment: of all events, sorted within a user: the time, or the day if histories change once
            a day.
        kept: which events a history may hold.
        rows: the events that need a history.
        max_length: events a history holds at most.
        known_before: for each event, how many events of its user are known that are not in
            the table, being older than what a snapshot carries.
    """
    count = len(user)
    new_user = np.ones(count, bool)
    new_user[1:] = user[1:] != user[:-1]
    new_moment = new_user.copy()
    new_moment[1:] |= moment[1:] != moment[:-1]
    position = np.arange(count)
    first_of_user = np.maximum.accumulate(np.where(new_user, position, 0))
    first_of_moment = np.maximum.accumulate(np.where(new_moment, position, 0))
    kept_before = np.concatenate([[0], np.cumsum(kept)])

    end = kept_before[first_of_moment[rows]]
    user_start = kept_before[first_of_user[rows]]
    start = np.maximum(user_start, end - max_length)
    return Windows(start, end, end - user_start + known_before[rows])


def chunks(length: np.ndarray) -> Iterator[slice]:
    """Cuts rows into runs whose histories together stay within the chunk limits."""
    begin = 0
    ends = np.cumsum(length)
    while begin < len(length):
        used = ends[begin - 1] if begin else 0
        stop = int(np.searchsorted(ends, used + ENTRIES_PER_CHUNK, side="right"))
        stop = min(max(stop, begin + 1), begin + ROWS_PER_CHUNK, len(length))
        yield slice(begin, stop)
        begin = stop


def window_indices(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lays windows end to end.

    Returns:
        Offsets of the windows in the flat list, and the event index of each entry.
    """
    offsets = np.concatenate([[0], np.cumsum(length)])
    indices = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], length)
    return offsets, indices


def order_of_runs(user: np.ndarray, key: np.ndarray, length: int) -> np.ndarray:
    """Orders rows by random keys, but leaves runs of a user's consecutive rows together.

    Args:
        user: user codes of rows sorted by user and time, [rows].
        key: random number of each row, [rows]; a run has the place of its first row's.
        length: rows of a run, but for the last one of a user.

    Returns:
        Indices of the rows in their new order, [rows].
    """
    row = np.arange(len(user))
    is_new = np.ones(len(user), bool)
    is_new[1:] = user[1:] != user[:-1]
    first_of_user = np.maximum.accumulate(np.where(is_new, row, 0))
    first_of_run = row - (row - first_of_user) % length
    return np.lexsort((row, first_of_run, key[first_of_run]))
