"""Statistics of lengths and densities, mergeable and exact.

Lengths and counts are whole numbers that repeat, so a histogram by value gives the mean, the
standard deviation and every quantile exactly, whatever the sharding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas import features
from schemas.profile import SequenceProfile

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SMALLEST_STD = 1e-6
# What an edge is rounded to, times a power of ten.
_READABLE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class ValueCounts:
    """How often each value occurred, by increasing value."""

    __slots__ = ("counts", "values")

    def __init__(self, values: np.ndarray | None = None, counts: np.ndarray | None = None) -> None:
        self.values = np.empty(0, np.int64) if values is None else values
        self.counts = np.empty(0, np.int64) if counts is None else counts

    @classmethod
    def of(cls, values: np.ndarray) -> ValueCounts:
        """Counts the values of an array."""
        return cls(*np.unique(values, return_counts=True))

    def merge(self, *others: ValueCounts) -> ValueCounts:
        """Returns the counts of this and all others together."""
        parts = [part for part in (self, *others) if len(part.values)]
        if not parts:
            return ValueCounts()
        values, place = np.unique(
            np.concatenate([part.values for part in parts]), return_inverse=True
        )
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
        return ValueCounts(values, counts)

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def mean(self) -> float:
        """Returns the mean; 0 without values."""
        return float(np.dot(self.values, self.counts)) / self.total if self.total else 0.0

    def std(self) -> float:
        """Returns the standard deviation of the values as a population; 0 without values."""
        if not self.total:
            return 0.0
        centred = self.values - self.mean()
        return math.sqrt(float(np.dot(centred * centred, self.counts)) / self.total)

    def quantile(self, share: float) -> int:
        """Returns the smallest value that at least ``share`` of all values do not exceed."""
        cumulated = np.cumsum(self.counts)
        place = int(np.searchsorted(cumulated, share * self.total, side="left"))
        return int(self.values[min(place, len(self.values) - 1)])

    def shares(self, edges: Sequence[int]) -> dict[str, float]:
        """Returns the share of the values in each bucket that ``edges`` cut."""
        names = features.bucket_names(edges)
        bucket = np.searchsorted(np.asarray(edges, np.int64), self.values, side="right")
        sums = np.bincount(bucket, self.counts, len(names))
        return {name: float(part / self.total) for name, part in zip(names, sums, strict=True)}


class ProfileCounts:
    """Everything that a profile is computed from; the accumulator of the component.

    Attributes:
        lengths: ``history_length``.
        total_lengths: ``history_length_total``.
        densities: ``item_train_count``.
        items: hash of the target item.
        positives: examples with label 1.
    """

    __slots__ = ("densities", "items", "lengths", "positives", "total_lengths")

    def __init__(self) -> None:
        self.lengths = ValueCounts()
        self.total_lengths = ValueCounts()
        self.densities = ValueCounts()
        self.items = ValueCounts()
        self.positives = 0

    @classmethod
    def of(
        cls,
        *,
        lengths: np.ndarray,
        total_lengths: np.ndarray,
        densities: np.ndarray,
        items: np.ndarray,
        labels: np.ndarray,
    ) -> ProfileCounts:
        """Counts a batch of training examples, ``[rows]`` each; items as hashes, uint64."""
        counts = cls()
        counts.lengths = ValueCounts.of(lengths)
        counts.total_lengths = ValueCounts.of(total_lengths)
        counts.densities = ValueCounts.of(densities)
        counts.items = ValueCounts.of(items)
        counts.positives = int(np.sum(labels == 1))
        return counts

    @property
    def size(self) -> int:
        """Distinct values that are counted, which is what a merge has to read."""
        counts = (self.lengths, self.total_lengths, self.densities, self.items)
        return sum(len(one.values) for one in counts)

    def merge(self, *others: ProfileCounts) -> ProfileCounts:
        """Returns the counts of this and all others together."""
        merged = ProfileCounts()
        for name in ("lengths", "total_lengths", "densities", "items"):
            parts = [getattr(other, name) for other in others]
            setattr(merged, name, getattr(self, name).merge(*parts))
        merged.positives = self.positives + sum(other.positives for other in others)
        return merged

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def make_profile(
    counts: ProfileCounts,
    *,
    length_edges: Sequence[int],
    density_edges: Sequence[int],
    max_length: int,
) -> SequenceProfile:
    """Computes the profile of the training split.

    Args:
        counts: counts of all training examples.
        length_edges: configured lower bounds, in events, of the length buckets but the first.
        density_edges: the same for the density buckets, in training samples.
        max_length: maximum history length of the examples, in events.

    Raises:
        ValueError: there is no training example.
    """
    examples = counts.lengths.total
    if not examples:
        raise ValueError("the training split is empty: a sequence profile needs examples")
    items = len(counts.items.values)
    return SequenceProfile(
        examples=examples,
        max_length=max_length,
        length_mean=counts.lengths.mean(),
        length_std=max(counts.lengths.std(), SMALLEST_STD),
        length_quantiles=_quantiles(counts.lengths),
        total_length_quantiles=_quantiles(counts.total_lengths),
        items=items,
        samples_per_item=examples / items,
        proposed_length_edges=propose_edges(counts.lengths, len(length_edges) + 1),
        proposed_density_edges=propose_edges(counts.densities, len(density_edges) + 1),
        length_bucket_shares=counts.lengths.shares(length_edges),
        density_bucket_shares=counts.densities.shares(density_edges),
        label_mean=counts.positives / examples,
    )


def propose_edges(counts: ValueCounts, buckets: int) -> list[int]:
    """Proposes lower bounds of buckets of about equal share.

    The bounds are quantiles rounded to readable numbers, so shares are equal only roughly, and
    there are fewer buckets where one value alone has a larger share.

    Args:
        counts: how often each value occurred, at least one.
        buckets: number of buckets wished for, the first included.

    Returns:
        Strictly increasing whole numbers from 1, none above the largest value.
    """
    largest = int(counts.values[-1])
    edges = {_readable(counts.quantile(part / buckets)) for part in range(1, buckets)}
    return sorted(edge for edge in edges if 1 <= edge <= largest)


def _readable(value: int) -> int:
    if value <= 10:
        return max(value, 1)
    power = 10.0 ** math.floor(math.log10(value))
    return int(min((step * power for step in _READABLE), key=lambda near: abs(near - value)))


def _quantiles(counts: ValueCounts) -> dict[str, float]:
    return {str(share): float(counts.quantile(share)) for share in QUANTILES}
