"""Items of the simulated log: category, author, popularity and time of birth."""

from __future__ import annotations

import dataclasses

import numpy as np

from beam_jobs.simulation.process import DAY_MS, EXPOSURE, START_MS, generator, shares


@dataclasses.dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All items, arrays of ``[items]``, sorted by category and time of birth.

    Attributes:
        item_id: int64 identifier.
        category: category of the item.
        author: index of the author.
        duration_seconds: length of the video.
        duration_known: whether the item file has it.
        listed: whether the item file has the item.
        birth_ms: time from which the item can be shown.
        expected_samples: impressions to expect of an item there from the start.
        authors: number of authors.
        category_popularity: ``[categories]`` shares that exploration follows.
    """

    item_id: np.ndarray
    category: np.ndarray
    author: np.ndarray
    duration_seconds: np.ndarray
    duration_known: np.ndarray
    listed: np.ndarray
    birth_ms: np.ndarray
    expected_samples: np.ndarray
    authors: int
    category_popularity: np.ndarray
    cumulative_popularity: np.ndarray
    births_in_order: np.ndarray
    birth_order: np.ndarray


def draw_catalogue(impressions: int, seed: int) -> Catalogue:
    """Draws a catalogue in proportion to the size of the log."""
    process, rng = EXPOSURE, generator(seed, 1)
    count = max(200, round(process.items * (impressions / 200_000) ** process.items_power))
    authors = max(process.categories, round(count / process.items_per_author))
    author = rng.choice(authors, count, p=shares(rng.normal(0, 1, authors)))
    home = rng.integers(0, process.categories, authors)
    away = rng.random(count) < process.off_topic
    category = np.where(away, rng.integers(0, process.categories, count), home[author])
    late = rng.random(count) >= process.items_at_start
    birth = np.where(late, rng.uniform(0, (process.days - 0.5) * DAY_MS, count), 0)
    # Every category has an item from the first moment on.
    category[: process.categories] = np.arange(process.categories)
    birth[: process.categories] = 0
    weight = np.exp(rng.normal(0, process.popularity_sigma, count))

    order = np.lexsort((birth, category))
    category, birth, weight = category[order], birth[order].astype(np.int64), weight[order]
    popularity = shares(rng.normal(0, 0.5, process.categories))
    shown = (1 - process.explore) / process.categories + process.explore * popularity
    in_category = weight / np.bincount(category, weight, process.categories)[category]
    return Catalogue(
        item_id=1_000_000 + rng.permutation(count).astype(np.int64),
        category=category,
        author=author[order],
        duration_seconds=np.round(np.clip(rng.lognormal(3.4, 0.9, count), 3, 3_600), 1),
        duration_known=rng.random(count) >= process.missing_duration,
        listed=rng.random(count) >= process.absent_items,
        birth_ms=START_MS + birth,
        expected_samples=impressions * shown[category] * in_category,
        authors=authors,
        category_popularity=popularity,
        cumulative_popularity=np.concatenate([[0.0], np.cumsum(weight)]),
        births_in_order=START_MS + np.sort(birth),
        birth_order=np.argsort(birth, kind="stable"),
    )
