"""Ranking and calibration metrics on arrays, exact and vectorised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.ArrayLike

# Keeps the logarithm finite for a prediction of exactly 0 or 1 in float64.
SMALLEST_PROBABILITY = 1e-15


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve by ranks; ties count half.

    Args:
        labels: 0 or 1, [n].
        scores: any increasing function of the click probability, [n].

    Returns:
        From 0 to 1; NaN if there is one class only.
    """
    positive = np.asarray(labels) > 0
    ranks = _mean_ranks(np.asarray(scores))
    positives = int(positive.sum())
    negatives = positive.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def gauc(labels: Array, scores: Array, groups: Array) -> float:
    """Mean of the AUC within each group, weighted by the rows of the group.

    Groups with one class only are left out; ties count half.

    Args:
        labels: 0 or 1, [n].
        scores: any increasing function of the click probability, [n].
        groups: whose row it is, such as the user, [n].

    Returns:
        From 0 to 1; NaN if no group has both classes.
    """
    positive = np.asarray(labels) > 0
    values = np.asarray(scores)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    group = group.reshape(-1)
    if group.size == 0:
        return float("nan")
    rows = np.bincount(group)
    positives = np.bincount(group, weights=positive)
    negatives = rows - positives
    # Ranks within a group: those in the order by group and score, less the rows of earlier groups.
    order = np.lexsort((values, group))
    starts = np.concatenate([[0], np.cumsum(rows)[:-1]])
    ranks = np.empty(group.size)
    ranks[order] = _mean_positions(values[order], group[order]) - starts[group[order]]
    above = np.bincount(group, weights=ranks * positive) - positives * (positives + 1) / 2
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return float("nan")
    by_group = above[both] / (positives[both] * negatives[both])
    return float(np.average(by_group, weights=rows[both]))


def log_loss(labels: Array, probabilities: Array) -> float:
    """Mean of -log of the probability given to what happened, in nats; NaN without rows."""
    label = np.asarray(labels, np.float64)
    if label.size == 0:
        return float("nan")
    clipped = np.clip(
        np.asarray(probabilities, np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY
    )
    return float(-np.mean(label * np.log(clipped) + (1 - label) * np.log1p(-clipped)))


def calibration(labels: Array, probabilities: Array) -> float:
    """Mean prediction divided by mean label; 1 is best, NaN without positives."""
    total = float(np.sum(np.asarray(labels, np.float64)))
    if total == 0:
        return float("nan")
    return float(np.sum(np.asarray(probabilities, np.float64)) / total)


def _mean_ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Rank of each value from 1; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty(values.size)
    ranks[order] = _mean_positions(values[order], np.zeros(values.size, np.int64))
    return ranks


def _mean_positions(
    values: npt.NDArray[np.generic], group: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Position from 1 in sorted rows; rows equal in value and group share the mean."""
    if values.size == 0:
        return np.empty(0)
    changes = (values[1:] != values[:-1]) | (group[1:] != group[:-1])
    run = np.concatenate([[0], np.cumsum(changes)])
    sizes = np.bincount(run)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[run]
