"""Exact metrics of scored rows, overall and by bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models import metrics
from schemas import features

Array = npt.NDArray[Any]

OVERALL = "overall"
# All rows again, each with the history its user had before the first of his rows.
ONE_HISTORY = "one_history"
DIMENSIONS = (features.LENGTH_BUCKET, features.DENSITY_BUCKET)


def probabilities(logits: Array) -> Array:
    """Returns click probabilities in float64."""
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


def row_metrics(labels: Array, logits: Array, users: Array) -> dict[str, float | int | None]:
    """Returns examples, positives, auc, gauc (by user), log_loss and calibration.

    A metric that is not defined, such as the AUC of one class, is None.
    """
    clicks = probabilities(logits)
    values = {
        "auc": metrics.auc(labels, logits),
        "gauc": metrics.gauc(labels, logits, users),
        "log_loss": metrics.log_loss(labels, clicks),
        "calibration": metrics.calibration(labels, clicks),
    }
    return {
        "examples": len(labels),
        "positives": int(np.sum(labels)),
        **{name: None if np.isnan(value) else value for name, value in values.items()},
    }


def sliced_metrics(
    labels: Array,
    logits: Array,
    users: Array,
    buckets: Mapping[str, Array],
    edges: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Returns the metrics of all rows under ``overall``, and by dimension and bucket.

    Args:
        labels: 0 or 1, [rows].
        logits: [rows].
        users: [rows].
        buckets: name of the bucket of each row, [rows], by dimension.
        edges: lower bounds of the buckets but the first, by dimension.
    """
    result: dict[str, Any] = {OVERALL: row_metrics(labels, logits, users)}
    for dimension, names in buckets.items():
        result[dimension] = {
            name: row_metrics(labels[chosen], logits[chosen], users[chosen])
            for name, chosen in _by_bucket(names, edges[dimension])
        }
    return result


def slice_masks(
    buckets: Mapping[str, Array], edges: Mapping[str, Sequence[int]]
) -> dict[tuple[str, str], Array]:
    """Returns a mask of rows [rows] by dimension and bucket, all rows first."""
    rows = len(next(iter(buckets.values())))
    masks: dict[tuple[str, str], Array] = {(OVERALL, "all"): np.ones(rows, bool)}
    for dimension, names in buckets.items():
        masks.update(
            {(dimension, name): chosen for name, chosen in _by_bucket(names, edges[dimension])}
        )
    return masks


def _by_bucket(names: Array, edges: Sequence[int]) -> Iterator[tuple[str, Array]]:
    for name in features.bucket_names(edges):
        yield name, names == name
