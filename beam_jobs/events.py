"""Cleans the events of one shard of users: order, duplicates, late rows, protocol.

A shard's events are a table sorted by user, time, item, label and action, with the columns of
``normalise.event_schema`` and ``ORIGIN``. Order at equal times is by item, so it does not
depend on how the log was cut into files.
"""

from __future__ import annotations

import enum
import zoneinfo
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from beam_jobs.columns import ordinals
from beam_jobs.config import Freshness, HistoryProtocol
from beam_jobs.normalise import local_days
from schemas.dataset import DatasetDescription
from schemas.features import MISSING_INT

# No context field can have these names.
ORIGIN = "<origin>"
REASON = "<reason>"

_CARRIED_NO_ITEM = f"item: a carried event has {MISSING_INT}, which stands for no item"


class Origin(enum.IntEnum):
    """Where an event of a shard comes from."""

    HISTORY = 0
    """Carried over by a snapshot or a prior history; never an example."""
    LOG = 1
    """A row of the log."""
    NEGATIVE = 2
    """A sampled negative; never part of a history."""


@dataclass(frozen=True)
class Bounds:
    """The cuts in time, in milliseconds; a split is [its start, the next start).

    Attributes:
        train_start: earlier rows feed histories only.
        validation_start: start of the validation split.
        test_start: start of the test split.
        end: rows from here on are rejected.
        late: rows before this are rejected as late; the last time of the snapshot.
    """

    train_start: int
    validation_start: int
    test_start: int
    end: int
    late: int

    def split_of(self, time: np.ndarray) -> np.ndarray:
        """Returns 0, 1 or 2 for train, validation or test, and -1 for history only."""
        cuts = np.array([self.train_start, self.validation_start, self.test_start])
        return np.searchsorted(cuts, time, side="right") - 1


@dataclass
class CleanEvents:
    """The events of a shard, sorted, and what was taken out.

    Attributes:
        events: the sorted table with ``ORIGIN``.
        rejected: rows taken out, with a column ``REASON``.
        counts: counters ``rejected:<reason>``.
    """

    events: pa.Table
    rejected: pa.Table
    counts: Counter[str]


def kept_by_protocol(
    label: np.ndarray,
    action: np.ndarray,
    protocol: HistoryProtocol,
    description: DatasetDescription,
) -> np.ndarray:
    """Returns which events a history keeps under a protocol.

    What is unknown (label -1) is not known to be positive, so the positive protocols drop it.
    """
    if protocol is HistoryProtocol.CLICK_ONLY:
        return label == 1
    if protocol is HistoryProtocol.POSITIVE_ONLY:
        positive = [i + 1 for i, a in enumerate(description.actions) if a.positive]
        return np.isin(action, positive)
    return np.ones(len(label), bool)


def moments(time: np.ndarray, freshness: Freshness, description: DatasetDescription) -> np.ndarray:
    """Returns what orders events and impressions: an impression sees those of earlier moments.

    Args:
        time: in milliseconds.
        freshness: of the histories.
        description: holds the zone of the local days.
    """
    if freshness is Freshness.DAY:
        return local_days(time, zoneinfo.ZoneInfo(description.log.timezone))
    return time


def sort_events(events: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """Sorts events and returns them with their user, time, item and label codes, one row each.

    Carried events come before equal ones of the log. The remaining columns decide between rows
    that are otherwise equal, so that the outcome does not depend on the order of arrival.
    """
    names = ["user", "time", "item", "label", ORIGIN, "action"]
    names += [n for n in events.column_names if n not in names]
    keys = [_codes(events.column(name)) for name in names]
    order = np.lexsort(keys[::-1])
    return events.take(pa.array(order)), np.stack([key[order] for key in keys[:4]])


def clean_events(events: pa.Table, bounds: Bounds) -> CleanEvents:
    """Sorts the events of a shard and rejects late, too new and duplicate rows.

    A row of the log may be a duplicate of one that an earlier run saw, since a snapshot carries
    all events at its last time. A carried event of the item that stands for none is rejected like
    such a row of the log, which :mod:`beam_jobs.normalise` has put aside.

    Args:
        events: log rows and carried events in any order, with ``ORIGIN``.
        bounds: the cuts in time.
    """
    time = np.asarray(events.column("time"))
    is_log = np.asarray(events.column(ORIGIN)) == Origin.LOG
    reasons = {
        "late": is_log & (time < bounds.late),
        "after_end": is_log & (time >= bounds.end),
        _CARRIED_NO_ITEM: _has_no_item(events),
    }
    rejected = [_with_reason(events, mask, reason) for reason, mask in reasons.items()]
    counts = Counter({f"rejected:{reason}": int(mask.sum()) for reason, mask in reasons.items()})
    out = np.logical_or.reduce(list(reasons.values()))
    if out.any():
        events = events.filter(pa.array(~out))

    events, keys = sort_events(events)
    same = np.zeros(events.num_rows, bool)
    same[1:] = (keys[:, 1:] == keys[:, :-1]).all(axis=0)
    rejected.append(_with_reason(events, same, "duplicate"))
    counts["rejected:duplicate"] += int(same.sum())
    if same.any():
        # Of duplicates the strongest action stays, though a carried one comes first.
        action = np.minimum.reduceat(np.asarray(events.column("action")), np.flatnonzero(~same))
        events = events.filter(pa.array(~same))
        place = events.schema.get_field_index("action")
        events = events.set_column(place, "action", pa.array(action, pa.int8()))
    return CleanEvents(events.combine_chunks(), pa.concat_tables(rejected), +counts)


def _has_no_item(events: pa.Table) -> np.ndarray:
    item = events.column("item")
    if not pa.types.is_integer(item.type):
        return np.zeros(events.num_rows, bool)
    return np.asarray(item) == MISSING_INT


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_floating(column.type):
        return np.nan_to_num(column.to_numpy().astype(float), nan=-np.inf)
    return ordinals(column)


def _with_reason(events: pa.Table, mask: np.ndarray, reason: str) -> pa.Table:
    taken = events.filter(pa.array(mask)).drop_columns([ORIGIN])
    return taken.append_column(REASON, pa.array([reason] * taken.num_rows, pa.string()))
