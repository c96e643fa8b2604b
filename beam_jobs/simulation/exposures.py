"""Exposures of the simulated log: who is shown what, when and where on a feed page."""

from __future__ import annotations

import dataclasses

import numpy as np

from beam_jobs.simulation.catalogue import Catalogue
from beam_jobs.simulation.process import DAY_MS, EXPOSURE, HOUR_MS, START_MS
from beam_jobs.simulation.users import Users

SURFACES = ("feed", "following", "explore")
# Hours of a session's start, relative: a quiet night, a peak in the evening (UTC).
_HOUR_WEIGHTS = np.array(
    [4, 3, 2, 1, 1, 1, 2, 4, 6, 6, 6, 7, 9, 8, 7, 7, 8, 9, 11, 13, 14, 13, 10, 7], np.float64
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposures:
    """Impressions of a block of users, arrays of ``[rows]``, by user and time.

    Attributes:
        user: index of the user.
        item: index of the item.
        time_ms: time, shared by the rows of a page.
        position: place on the page, from 0.
        surface: code of ``SURFACES``, one a session.
        history: the user's events at strictly earlier times.
    """

    user: np.ndarray
    item: np.ndarray
    time_ms: np.ndarray
    position: np.ndarray
    surface: np.ndarray
    history: np.ndarray


def draw_exposures(
    users: Users, first: int, last: int, catalogue: Catalogue, rng: np.random.Generator
) -> Exposures:
    """Draws the impressions of users ``first`` to ``last`` (exclusive)."""
    events = users.events[first:last]
    user = np.repeat(np.arange(last - first), events)
    starts = np.cumsum(events) - events
    index = np.arange(user.size) - starts[user]

    page, position = _draw_pages(index, rng)
    page_start = np.flatnonzero(position == 0)
    time_ms, surface = _draw_times(user[page_start], users.begin_ms[first:last], rng)
    # Pages take their times in order, so a page's first index counts strictly earlier events.
    history = index[page_start][page]
    time_ms, surface = time_ms[page], surface[page]
    category = _draw_categories(user, events, history, catalogue, rng)
    item = _draw_items(category, time_ms, page, catalogue, rng)
    return Exposures(
        user=user + first,
        item=item,
        time_ms=time_ms,
        position=position,
        surface=surface,
        history=history,
    )


def _draw_pages(index: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cuts each user's events into pages; returns page number and position, ``[rows]``."""
    rows = np.arange(index.size)
    begins = (rng.random(index.size) >= EXPOSURE.page_continue) | (index == 0)
    run = rows - np.maximum.accumulate(np.where(begins, rows, 0))
    position = run % EXPOSURE.page_max
    return np.cumsum(position == 0) - 1, position


def _draw_times(
    user: np.ndarray, begin_ms: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws time and surface of pages, ``[pages]``, increasing within each user."""
    pages = user.size
    new_user = np.diff(user, prepend=-1) > 0
    opens = (rng.random(pages) >= EXPOSURE.session_continue) | new_user
    session = np.cumsum(opens) - 1
    owner = user[opens]

    end_ms = START_MS + EXPOSURE.days * DAY_MS
    # The last minute is kept free for the milliseconds that part pages of equal time.
    span = end_ms - 60_000 - begin_ms[owner]
    moment = begin_ms[owner] + (rng.random(owner.size) * span).astype(np.int64)
    hour = rng.choice(24, owner.size, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
    moment = moment - (moment - START_MS) % DAY_MS + hour * HOUR_MS
    moment += rng.integers(0, HOUR_MS, owner.size)
    gaps = np.where(opens, 0, rng.integers(15_000, 120_000, pages))
    elapsed = np.cumsum(gaps)
    time_ms = moment[session] + elapsed - elapsed[opens][session]
    # What falls before the user joins or after the log ends wraps around.
    offset = (time_ms - begin_ms[user]) % span[session]
    surface = rng.choice(len(SURFACES), owner.size, p=[0.65, 0.2, 0.15])[session]

    order = np.lexsort((offset, user))
    first_page = np.maximum.accumulate(np.where(new_user, np.arange(pages), 0))
    rank = np.arange(pages) - first_page
    return begin_ms[user] + offset[order] + rank, surface[order]


def _draw_categories(
    user: np.ndarray,
    events: np.ndarray,
    history: np.ndarray,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the category of each impression: one that the user browses then, or any."""
    process = EXPOSURE
    tastes = rng.permuted(
        np.tile(np.arange(process.categories, dtype=np.int8), (events.size, 1)), axis=1
    )
    grown = np.floor(np.log2(1 + events / process.browsed_scale)).astype(np.int64)
    browsed = np.minimum(process.browsed_min + grown, process.categories)
    place = (rng.random(user.size) * browsed[user]).astype(np.int64)
    slot = (history // process.browsed_slide + place) % process.categories
    anywhere = rng.choice(process.categories, user.size, p=catalogue.category_popularity)
    explores = rng.random(user.size) < process.explore
    return np.where(explores, anywhere, tastes[user, slot].astype(np.int64))


def _draw_items(
    category: np.ndarray,
    time_ms: np.ndarray,
    page: np.ndarray,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws items already born, by popularity in the category; a page shows none twice."""
    span = (EXPOSURE.days + 1) * DAY_MS
    births = catalogue.category * span + (catalogue.birth_ms - START_MS)
    begin = np.searchsorted(catalogue.category, np.arange(EXPOSURE.categories))[category]
    end = np.searchsorted(births, category * span + (time_ms - START_MS), side="right")
    low = catalogue.cumulative_popularity[begin]
    high = catalogue.cumulative_popularity[end]
    target = low + rng.random(category.size) * (high - low)
    item = np.searchsorted(catalogue.cumulative_popularity, target, side="right") - 1
    item = np.clip(item, begin, end - 1)
    again = _repeats(page, item)
    while again.size:
        born = np.searchsorted(catalogue.births_in_order, time_ms[again], side="right")
        item[again] = catalogue.birth_order[(rng.random(again.size) * born).astype(np.int64)]
        again = _repeats(page, item)
    return item


def _repeats(page: np.ndarray, item: np.ndarray) -> np.ndarray:
    order = np.lexsort((item, page))
    same = (np.diff(page[order]) == 0) & (np.diff(item[order]) == 0)
    return np.sort(order[1:][same])
