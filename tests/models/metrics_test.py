"""Tests of the metrics on arrays, against pairs counted one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics

# Few distinct scores, so that ties are common.
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([-1.0, 0.0, 0.25, 3.0]), st.integers(0, 3)),
    max_size=40,
)


def pairwise_auc(labels: list[int], scores: list[float]) -> float:
    wins = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for label, high in zip(labels, scores, strict=True)
        if label
        for other, low in zip(labels, scores, strict=True)
        if not other
    ]
    return sum(wins) / len(wins) if wins else math.nan


@given(ROWS)
def test_auc_counts_pairs(rows: list[tuple[int, float, int]]) -> None:
    labels, scores = [row[0] for row in rows], [row[1] for row in rows]
    assert metrics.auc(labels, scores) == pytest.approx(pairwise_auc(labels, scores), nan_ok=True)


@given(ROWS)
def test_gauc_weighs_users_by_impressions(rows: list[tuple[int, float, int]]) -> None:
    total = weight = 0.0
    for user in {row[2] for row in rows}:
        own = [row for row in rows if row[2] == user]
        value = pairwise_auc([row[0] for row in own], [row[1] for row in own])
        if not math.isnan(value):
            total, weight = total + len(own) * value, weight + len(own)
    expected = total / weight if weight else math.nan
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    assert metrics.gauc(*columns) == pytest.approx(expected, nan_ok=True)


def test_gauc_takes_any_kind_of_group() -> None:
    value = metrics.gauc([1, 0, 0, 1], [0.9, 0.1, 0.8, 0.2], ["a", "a", "b", "b"])
    assert value == 0.5


def test_auc_of_many_rows_is_exact() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 2_000)
    scores = np.round(random.normal(size=2_000) + labels, 1)
    positive, negative = scores[labels == 1][:, None], scores[labels == 0][None, :]
    expected = np.mean((positive > negative) + 0.5 * (positive == negative))
    assert metrics.auc(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_log_loss_by_hand_and_at_the_ends() -> None:
    assert metrics.log_loss([1, 0], [0.8, 0.5]) == pytest.approx(
        -(math.log(0.8) + math.log(0.5)) / 2
    )
    assert math.isfinite(metrics.log_loss([1, 0], [0.0, 1.0]))
    assert math.isnan(metrics.log_loss([], []))


def test_calibration_is_mean_prediction_over_mean_label() -> None:
    assert metrics.calibration([1, 0, 0, 1], [0.5, 0.25, 0.25, 0.5]) == 0.75
    assert math.isnan(metrics.calibration([0, 0], [0.1, 0.2]))
