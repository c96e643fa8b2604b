from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.accumulator import ScoreAccumulator, auc_of_counts
from models import metrics

ROW = st.tuples(
    st.integers(0, 1),
    st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32)),
    st.integers(0, 5),
)


def _accumulate(rows: list[tuple[int, float, int]], **limits: int) -> ScoreAccumulator:
    accumulator = ScoreAccumulator(**limits)
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    accumulator.add(labels, scores.astype(np.float32), users.astype(np.uint64))
    return accumulator


def _pairwise_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Counts every pair, the definition itself."""
    pairs = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one in scores[labels == 1]
        for other in scores[labels == 0]
    ]
    return float(np.mean(pairs)) if pairs else math.nan


@given(st.lists(ROW, min_size=1, max_size=60), st.data())
def test_any_sharding_gives_the_metrics_of_all_rows(
    rows: list[tuple[int, float, int]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    bounds = [0, *cuts, len(rows)]
    parts = [rows[low:high] for low, high in itertools.pairwise(bounds)]
    shards = [_accumulate(part) for part in parts if part]
    merged = ScoreAccumulator()
    for shard in data.draw(st.permutations(shards)):
        merged.merge(pickle.loads(pickle.dumps(shard)))

    result = merged.result()

    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    scores = scores.astype(np.float32)
    assert result.auc == pytest.approx(_pairwise_auc(labels, scores), abs=1e-12, nan_ok=True)
    assert result.auc_error_bound == 0 or math.isnan(result.auc)
    assert result.gauc == pytest.approx(metrics.gauc(labels, scores, users), nan_ok=True)
    assert result.log_loss == pytest.approx(metrics.log_loss(labels, scores))
    assert result.calibration == pytest.approx(metrics.calibration(labels, scores), nan_ok=True)
    assert result.example_count == len(rows)
    assert result.label_mean == pytest.approx(labels.mean())
    assert result.invalid_scores == 0


@given(st.lists(ROW, min_size=8, max_size=80), st.integers(2, 6), st.integers(1, 70))
def test_the_error_bound_holds_and_does_not_depend_on_sharding(
    rows: list[tuple[int, float, int]], max_distinct: int, cut: int
) -> None:
    whole = _accumulate(rows, max_distinct=max_distinct)
    merged = ScoreAccumulator(max_distinct=max_distinct)
    for part in (rows[:cut], rows[cut:]):
        if part:
            merged.merge(_accumulate(part, max_distinct=max_distinct))

    result = whole.result()

    assert merged.result().auc == pytest.approx(result.auc, nan_ok=True)
    assert merged.result().auc_error_bound == pytest.approx(result.auc_error_bound, nan_ok=True)
    labels, scores, _ = (np.array(column) for column in zip(*rows, strict=True))
    exact = _pairwise_auc(labels, scores.astype(np.float32))
    if not math.isnan(exact):
        assert abs(result.auc - exact) <= result.auc_error_bound + 1e-12


def test_few_distinct_scores_too_many_are_rounded() -> None:
    scores = np.linspace(0, 1, 5000, dtype=np.float32)
    labels = (np.arange(5000) % 3 == 0).astype(np.int64)
    accumulator = ScoreAccumulator(max_distinct=1000)
    accumulator.add(labels, scores)

    result = accumulator.result()

    assert 0 < result.auc_error_bound < 0.01
    assert result.auc == pytest.approx(metrics.auc(labels, scores), abs=result.auc_error_bound)


def test_a_difference_of_half_a_thousandth_shows() -> None:
    # One pair in 2000 in the wrong order moves AUC by exactly 1/2000.
    scores = np.array([0.1] * 1 + [0.2] * 1999 + [0.3], np.float32)
    labels = np.array([0] * 2000 + [1])
    good, worse = ScoreAccumulator(), ScoreAccumulator()
    good.add(labels, scores)
    worse.add(labels, np.where(np.arange(2001) == 0, 0.4, scores))

    assert good.result().auc - worse.result().auc == pytest.approx(0.0005)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc(label: int) -> None:
    accumulator = _accumulate([(label, 0.5, 1), (label, 0.25, 2)])

    result = accumulator.result()

    assert math.isnan(result.auc)
    assert math.isnan(result.gauc)
    assert result.example_count == 2
    assert result.log_loss > 0


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_that_is_no_probability_spoils_the_metrics(score: float) -> None:
    accumulator = _accumulate([(1, 0.5, 1), (0, score, 1), (0, 0.25, 1)])

    result = accumulator.result()

    assert result.invalid_scores == 1
    assert result.example_count == 3
    assert all(math.isnan(value) for value in (result.auc, result.log_loss, result.gauc))


def test_negative_zero_ties_with_zero() -> None:
    assert _accumulate([(1, -0.0, 1), (0, 0.0, 1)]).result().auc == 0.5


def test_an_odd_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label 2: 0 and 1 are accepted"):
        _accumulate([(2, 0.5, 1)])


def test_a_label_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="label nan"):
        ScoreAccumulator().add(np.array([math.nan]), np.array([0.5]))


def test_users_beyond_the_limit_are_sampled_whole() -> None:
    random = np.random.default_rng(0)
    users = random.integers(0, 2**63, 400).astype(np.uint64).repeat(10)
    labels = random.integers(0, 2, 4000)
    scores = random.random(4000).astype(np.float32)
    order = random.permutation(4000)
    whole, merged = ScoreAccumulator(max_user_rows=1000), ScoreAccumulator(max_user_rows=1000)
    whole.add(labels, scores, users)
    for part in np.array_split(order, 7):
        shard = ScoreAccumulator(max_user_rows=1000)
        shard.add(labels[part], scores[part], users[part])
        merged.merge(shard)

    level = next(n for n in range(64) if (users % np.uint64(2**n) == 0).sum() <= 1000)
    kept = users % np.uint64(2**level) == 0
    expected = metrics.gauc(labels[kept], scores[kept], users[kept])

    assert 300 < kept.sum() <= 1000
    assert whole.result().gauc == pytest.approx(expected)
    assert merged.result().gauc == pytest.approx(expected)


def test_auc_of_counts_by_hand() -> None:
    # Scores 1 < 2 < 3 with (1, 2), (2, 1) and (1, 0) positives and negatives: of 4 x 3 pairs,
    # 2 x 1 + 2 x 1 tie, 2 x 2 + 1 x 3 are won.
    auc, bound = auc_of_counts(np.array([1, 2, 1]), np.array([2, 1, 0]))

    assert auc == pytest.approx((7 + 4 / 2) / 12)
    assert bound == pytest.approx(2 / 12)
