"""Paired differences between models: by seed, and over resampled users."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.experiments.bootstrap import METRICS, REPLICATES, UserBootstrap
from pipeline.experiments.row_facts import RowFacts
from pipeline.experiments.slices import OVERALL, row_metrics, slice_masks
from schemas import features

Array = npt.NDArray[Any]

# Smaller slices say too little of a difference.
SMALLEST_SLICE = 1_000
SHORT = features.HISTORY_LENGTH
# Student's t at 97.5 %, for 1 to 30 degrees of freedom.
_T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of a model less that of its base, on the same seeds and rows.

    Attributes:
        by_seed: difference for each seed.
        seed_interval: 95 % t interval over seeds; None with one seed.
        user_interval: 95 % interval of the mean over seeds, over resampled users.
    """

    by_seed: tuple[float, ...]
    seed_interval: Interval | None
    user_interval: Interval | None

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN where the metric is not defined on the slice."""
        return statistics.mean(self.by_seed)


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """A model against its base on one slice.

    Attributes:
        model: name of the model.
        base: name of its base.
        dimension: ``overall``, ``length_bucket``, ``density_bucket`` or ``history_length``.
        bucket: name of the bucket, ``all`` for all rows.
        examples: rows of the slice.
        seeds: those that both models have.
        differences: by metric.
    """

    model: str
    base: str
    dimension: str
    bucket: str
    examples: int
    seeds: tuple[int, ...]
    differences: Mapping[str, Difference]

    @property
    def is_below(self) -> bool:
        """Whether the AUC is below the base's and the interval over users shows it."""
        interval = self.differences["auc"].user_interval
        return interval is not None and interval[1] < 0


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Test logits of a model, in the order of the rows' keys.

    Attributes:
        logits: by seed, [rows] each.
        facts: what is known of the rows.
    """

    logits: Mapping[int, Array]
    facts: RowFacts

    @classmethod
    def read(cls, files: Mapping[int, Path], rows: Path | str) -> Predictions:
        """Reads the predictions of each seed and the test rows they belong to.

        Raises:
            ValueError: a file is of other rows than the example set has.
        """
        facts = RowFacts.read(rows)
        order = np.argsort(facts.key, kind="stable")
        logits = {}
        for seed, path in files.items():
            with np.load(path) as arrays:
                if not (
                    np.array_equal(arrays["key"], facts.key)
                    and np.array_equal(arrays["label"], facts.label)
                ):
                    raise ValueError(
                        f"{path}: predictions of other rows than {rows} holds; train the cell again"
                    )
                logits[seed] = arrays["logit"][order]
        return cls(logits=logits, facts=facts.take(order))


@dataclass
class Comparer:
    """Compares models whose predictions it is given; bootstraps each prediction once.

    Attributes:
        edges: lower bounds of the buckets but the first, by dimension.
        short_history: impressions with fewer events are a slice of their own.
        replicates: draws of the bootstrap.
    """

    edges: Mapping[str, Sequence[int]]
    short_history: int
    replicates: int = REPLICATES
    _drawn: dict[Any, dict[str, Array]] = field(default_factory=dict)
    _bootstraps: dict[bytes, UserBootstrap] = field(default_factory=dict)

    def compare(
        self, model: str, base: str, predictions: Mapping[str, Predictions]
    ) -> list[SliceComparison]:
        """Compares overall and on each slice of at least ``SMALLEST_SLICE`` rows.

        The slices are those of the base's example set.

        Raises:
            ValueError: the models were tested on different rows.
        """
        ours, theirs = predictions[model], predictions[base]
        seeds = tuple(seed for seed in ours.logits if seed in theirs.logits)
        facts = theirs.facts
        if not (
            np.array_equal(ours.facts.key, facts.key)
            and np.array_equal(ours.facts.label, facts.label)
        ):
            raise ValueError(f"{model} and {base} were tested on different rows")
        buckets = {
            features.LENGTH_BUCKET: facts.length_bucket,
            features.DENSITY_BUCKET: facts.density_bucket,
        }
        masks = slice_masks(buckets, self.edges)
        masks[SHORT, f"under {self.short_history}"] = is_short(facts, self.short_history)
        comparisons = []
        for (dimension, bucket), mask in masks.items():
            examples = int(mask.sum())
            if not seeds or (examples < SMALLEST_SLICE and dimension != OVERALL):
                continue
            differences = self._differences(model, base, predictions, seeds, mask)
            comparisons.append(
                SliceComparison(
                    model=model,
                    base=base,
                    dimension=dimension,
                    bucket=bucket,
                    examples=examples,
                    seeds=seeds,
                    differences=differences,
                )
            )
        return comparisons

    def _differences(
        self,
        model: str,
        base: str,
        predictions: Mapping[str, Predictions],
        seeds: tuple[int, ...],
        mask: Array,
    ) -> dict[str, Difference]:
        draws = {
            name: [self._draws(name, seed, predictions[name], mask) for seed in seeds]
            for name in (model, base)
        }
        exact = {
            name: [_exact(predictions[name], seed, mask) for seed in seeds]
            for name in (model, base)
        }
        result = {}
        for metric in METRICS:
            by_seed = tuple(
                ours[metric] - theirs[metric]
                for ours, theirs in zip(exact[model], exact[base], strict=True)
            )
            resampled = np.mean([draw[metric] for draw in draws[model]], axis=0) - np.mean(
                [draw[metric] for draw in draws[base]], axis=0
            )
            result[metric] = Difference(
                by_seed=by_seed,
                seed_interval=t_interval(by_seed),
                user_interval=_percentiles(resampled),
            )
        return result

    def _draws(self, name: str, seed: int, found: Predictions, mask: Array) -> dict[str, Array]:
        key = (name, seed, mask.tobytes())
        if key not in self._drawn:
            bootstrap = self._bootstrap(found.facts.user)
            self._drawn[key] = bootstrap.metrics(found.facts.label, found.logits[seed], mask)
        return self._drawn[key]

    def _bootstrap(self, users: Array) -> UserBootstrap:
        key = users.tobytes()
        if key not in self._bootstraps:
            self._bootstraps[key] = UserBootstrap(users, replicates=self.replicates)
        return self._bootstraps[key]


def is_short(facts: RowFacts, short_history: int) -> Array:
    """Returns a mask of the rows with fewer events than ``short_history``, [rows]."""
    return np.asarray(facts.history_length < short_history)


def short_metrics(found: Predictions, short_history: int) -> dict[int, dict[str, Any]]:
    """Returns the metrics of the rows with a short history by seed."""
    facts, chosen = found.facts, is_short(found.facts, short_history)
    return {
        seed: row_metrics(facts.label[chosen], logits[chosen], facts.user[chosen])
        for seed, logits in found.logits.items()
    }


def t_interval(values: Sequence[float]) -> Interval | None:
    """Returns the 95 % interval of the mean by Student's t; None for fewer than two values."""
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return None
    freedom = len(values) - 1
    # With more degrees of freedom the quantile is smaller, by 4 % at most.
    quantile = _T[min(freedom, len(_T)) - 1]
    mean = statistics.mean(values)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def _percentiles(values: Array) -> Interval | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _exact(found: Predictions, seed: int, mask: Array) -> dict[str, float]:
    facts = found.facts
    values = row_metrics(facts.label[mask], found.logits[seed][mask], facts.user[mask])
    return {name: math.nan if values[name] is None else float(values[name]) for name in METRICS}  # type: ignore[arg-type]
