"""Negatives for a log of positives, sampled from the catalogue by popularity."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.columns import hashes, mix, ordinals, single
from beam_jobs.events import ORIGIN, Bounds, Origin, sort_events
from schemas.dataset_sections import Negatives

_ATTEMPTS = 8


def add_negatives(
    events: pa.Table, catalogue: pa.Table, negatives: Negatives, bounds: Bounds
) -> pa.Table:
    """Adds sampled negatives to the impressions of all splits.

    The draw of a negative depends on the seed, the user, the item, the time and the number of
    the draw alone, so it is the same for any sharding. An item that the user took at the same
    time is drawn anew; after eight such draws the negative is left out, and so is one that is
    drawn twice for the same user and time, even if an earlier run drew it.

    Args:
        events: sorted events of a shard.
        catalogue: ``item`` and ``positives`` (training samples that are positive).
        negatives: how many, by what power of the popularity, and the seed.
        bounds: the cuts in time.

    Returns:
        The sorted events with the negatives among them.
    """
    time = np.asarray(events.column("time"))
    origin = np.asarray(events.column(ORIGIN))
    again = (origin == Origin.HISTORY) & (time == bounds.late)
    rows = np.flatnonzero(((origin == Origin.LOG) | again) & (bounds.split_of(time) >= 0))
    catalogue = catalogue.sort_by("item")
    weight = np.asarray(catalogue.column("positives")).astype(float) ** negatives.power
    weight[np.asarray(catalogue.column("positives")) == 0] = 0
    if not len(rows) or not weight.sum():
        return events
    cumulative = np.cumsum(weight) / weight.sum()

    user = single(events.column("user"))
    source = np.repeat(rows, negatives.per_positive)
    number = np.tile(np.arange(negatives.per_positive), len(rows))
    key = mix(
        hashes(user)[source], hashes(single(events.column("item")))[source], time[source], number
    )
    catalogue_items = single(catalogue.column("item"))
    taken = _taken_pairs(events, catalogue_items)
    moment = _moments(events)
    drawn = np.full(len(source), -1)
    for attempt in range(_ATTEMPTS):
        open_draws = np.flatnonzero(drawn < 0)
        if not len(open_draws):
            break
        uniform = mix(key[open_draws], negatives.seed, attempt) / float(2**64)
        pick = np.minimum(np.searchsorted(cumulative, uniform, side="right"), len(weight) - 1)
        pair = moment[source[open_draws]] * len(weight) + pick
        free = ~np.isin(pair, taken)
        drawn[open_draws[free]] = pick[free]
    found = np.flatnonzero(drawn >= 0)
    pair = moment[source[found]] * len(weight) + drawn[found]
    found = found[np.unique(pair, return_index=True)[1]]
    found = found[origin[source[found]] == Origin.LOG]

    count = len(found)
    sampled = events.take(pa.array(source[found]))
    columns = {
        "item": catalogue_items.take(pa.array(drawn[found])),
        "label": pa.array(np.zeros(count, np.int8)),
        ORIGIN: pa.array(np.full(count, Origin.NEGATIVE, np.int8)),
    }
    for name, column in columns.items():
        sampled = sampled.set_column(sampled.schema.get_field_index(name), name, column)
    return sort_events(pa.concat_tables([events, sampled]).combine_chunks())[0]


def _moments(events: pa.Table) -> np.ndarray:
    """Numbers the distinct (user, time) of sorted events."""
    user = ordinals(events.column("user"))
    time = np.asarray(events.column("time"))
    new = np.zeros(len(time), np.int64)
    new[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    return np.cumsum(new)


def _taken_pairs(events: pa.Table, catalogue: pa.Array) -> np.ndarray:
    """Returns (moment, catalogue item) of what was really taken, as one number each."""
    index = pc.index_in(single(events.column("item")), value_set=catalogue)
    position = np.asarray(pc.fill_null(index, -1)).astype(np.int64)
    pairs = _moments(events) * len(catalogue) + position
    return pairs[position >= 0]
