"""Constants of the simulated log's users, catalogue and exposures, and its random streams.

Nothing here looks at a click. A user is shown feed pages of up to ten items; the items of one
page share one time. Most of a page comes from the categories that the user browses at that
moment, whether or not they are liked, so that being shown a category says little and what the
user did with it says much.
"""

from __future__ import annotations

import dataclasses

import numpy as np

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
START_MS = 1_772_409_600_000  # 2026-03-02T00:00Z, a Monday


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExposureProcess:
    """Constants of users, catalogue and exposures.

    Attributes:
        days: length of the log.
        events_median: median of a user's impressions (log-normal).
        events_sigma: standard deviation of their natural logarithm.
        events_cap_share: no user has more than this share of the log.
        late_joiners: share of users whose first day is uniform over the log.
        items: items in the catalogue at 200,000 impressions.
        items_power: the catalogue grows with the log to this power.
        items_at_start: share of items that are there when the log begins.
        popularity_sigma: standard deviation of an item's log popularity.
        items_per_author: mean number of items of an author.
        off_topic: share of an author's items outside the author's category.
        categories: number of categories.
        themes: number of themes; category ``c`` belongs to theme ``c % themes``.
        browsed_min: categories that a user browses at a time, at least.
        browsed_scale: events ``n`` add ``floor(log2(1 + n / browsed_scale))`` categories.
        browsed_slide: after this many events one browsed category gives way to a new one.
        explore: share of impressions from any category, by the category's popularity.
        page_continue: chance that a page goes on after an item.
        page_max: longest page.
        session_continue: chance that a session goes on after a page.
        missing_age: share of users of unknown age.
        missing_account_days: share of users without a known account age.
        missing_duration: share of items without a known duration.
        absent_users: share of users that the user file lacks.
        absent_items: share of items that the item file lacks.
    """

    days: int = 14
    events_median: float = 30.0
    events_sigma: float = 1.4
    events_cap_share: float = 0.05
    late_joiners: float = 0.25
    items: int = 4_000
    items_power: float = 0.7
    items_at_start: float = 0.6
    popularity_sigma: float = 1.8
    items_per_author: float = 6.0
    off_topic: float = 0.15
    categories: int = 24
    themes: int = 6
    browsed_min: int = 3
    browsed_scale: float = 15.0
    browsed_slide: int = 80
    explore: float = 0.2
    page_continue: float = 0.75
    page_max: int = 10
    session_continue: float = 0.75
    missing_age: float = 0.08
    missing_account_days: float = 0.05
    missing_duration: float = 0.03
    absent_users: float = 0.02
    absent_items: float = 0.02


EXPOSURE = ExposureProcess()


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Returns the generator of one stream of draws."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


def shares(logs: np.ndarray) -> np.ndarray:
    """Returns weights ``exp(logs)``, scaled to add up to 1."""
    weights = np.exp(logs)
    return weights / weights.sum()
