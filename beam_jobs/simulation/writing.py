"""Writes the rows of the simulated log, block by block, and sums them up."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from beam_jobs.simulation.catalogue import Catalogue
from beam_jobs.simulation.effects import draw_effects
from beam_jobs.simulation.exposures import draw_exposures
from beam_jobs.simulation.outcomes import draw_outcomes
from beam_jobs.simulation.process import DAY_MS, EXPOSURE, START_MS, generator
from beam_jobs.simulation.tables import impression_table, truth_table
from beam_jobs.simulation.users import Users

TRUTH_FILE = "truth.parquet"
LAST_DAYS = 2
BLOCK_IMPRESSIONS = 250_000
ROW_GROUP = 50_000
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)

_progress = logging.getLogger("lengthwise.progress")


def write_log(folder: Path, users: Users, catalogue: Catalogue, seed: int) -> dict[str, Any]:
    """Writes the impressions and their truth into ``folder``.

    Returns:
        The figures of :class:`beam_jobs.simulate.SimulationReport`.
    """
    impressions = int(users.events.sum())
    effects = draw_effects(users, catalogue, seed)
    samples = np.zeros(catalogue.item_id.size, np.int64)
    probability = np.empty(impressions)
    clicked = np.empty(impressions, bool)
    late = np.empty(impressions, bool)
    blocks = _blocks(users.events)
    done = 0
    with contextlib.ExitStack() as stack:
        truth: pq.ParquetWriter | None = None
        for number, (first, last) in enumerate(blocks):
            rng = generator(seed, 3, number)
            exposures = draw_exposures(users, first, last, catalogue, rng)
            outcomes = draw_outcomes(exposures, effects, catalogue, rng)
            order = np.lexsort((exposures.position, exposures.user, exposures.time_ms))
            log = impression_table(users, catalogue, exposures, outcomes, order)
            pq.write_table(
                log,
                folder / f"impressions-{number:05d}-of-{len(blocks):05d}.parquet",
                row_group_size=ROW_GROUP,
                compression="zstd",
            )
            known = truth_table(log, outcomes.probability[order])
            if truth is None:
                truth = stack.enter_context(
                    pq.ParquetWriter(folder / TRUTH_FILE, known.schema, compression="zstd")
                )
            truth.write_table(known, row_group_size=ROW_GROUP)

            rows = slice(done, done + order.size)
            probability[rows] = outcomes.probability
            clicked[rows] = outcomes.clicked
            late[rows] = exposures.time_ms >= START_MS + (EXPOSURE.days - LAST_DAYS) * DAY_MS
            samples += np.bincount(exposures.item, minlength=samples.size)
            done += order.size
            _progress.info(
                "simulate", extra={"done": done, "total": impressions, "unit": "impressions"}
            )

    shown = samples[samples > 0]
    return {
        "impressions": impressions,
        "seed": seed,
        "users": int(users.events.size),
        "items": int(shown.size),
        "click_rate": float(clicked.mean()),
        "ceiling_auc": auc(probability, clicked),
        "ceiling_auc_last_days": auc(probability[late], clicked[late]),
        "user_events": _quantiles(users.events),
        "item_samples": _quantiles(shown),
        "users_over_1000": int((users.events > 1_000).sum()),
    }


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Returns the exact area under the ROC curve; equal scores count one half.

    Args:
        score: ``[rows]`` numbers.
        label: ``[rows]`` flags, both classes present.
    """
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int(label.sum())
    negatives = label.size - positives
    above = rank[label].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _blocks(events: np.ndarray) -> list[tuple[int, int]]:
    """Returns first and last (exclusive) user of blocks of about equal numbers of events."""
    block = (np.cumsum(events) - 1) // BLOCK_IMPRESSIONS
    starts = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], events.size], strict=True))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {str(q): float(np.quantile(values, q)) for q in _QUANTILES}
