"""Tests of paired differences: against resampled rows, Student's t and hand-made predictions."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models import metrics
from pipeline.experiments.bootstrap import UserBootstrap, user_aucs
from pipeline.experiments.comparison import Comparer, Predictions, t_interval
from pipeline.experiments.row_facts import FACT, RowFacts, write_arrays
from pipeline.experiments.slices import probabilities, row_metrics, sliced_metrics
from schemas import features

EDGES = {features.LENGTH_BUCKET: [10], features.DENSITY_BUCKET: [5]}


def make_facts(rows: int = 3000, users: int = 60, seed: int = 0) -> RowFacts:
    """Rows of users whose clicks are noise."""
    random = np.random.default_rng(seed)
    length, count = random.integers(0, 30, rows), random.integers(0, 10, rows)
    return RowFacts(
        label=random.integers(0, 2, rows).astype(np.float32),
        user=random.integers(0, users, rows),
        key=random.permutation(rows),
        time=random.integers(0, 100, rows),
        history_length=length,
        item_train_count=count,
        length_bucket=np.where(length < 10, "0-9", "10+"),
        density_bucket=np.where(count < 5, "0-4", "5+"),
    )


def make_logits(facts: RowFacts, strength: float, seed: int) -> Any:
    """Rounded, so that there are ties."""
    noise = np.random.default_rng(seed).normal(size=len(facts))
    return np.round(strength * (facts.label - 0.5) + noise, 1).astype(np.float32)


def test_a_draw_has_the_metrics_of_the_rows_of_its_users() -> None:
    facts = make_facts(400, 15)
    logits = make_logits(facts, 1.0, 1)
    chosen = facts.history_length < 20
    bootstrap = UserBootstrap(facts.user, replicates=80, seed=3)
    found = bootstrap.metrics(facts.label, logits, chosen)
    # The same draws, with rows repeated as often as their user was drawn.
    users = np.unique(facts.user)
    draws = np.random.default_rng(3).multinomial(
        len(users), np.full(len(users), 1 / len(users)), size=80
    )
    for replicate in (0, 63, 64, 79):
        times = draws[replicate][np.searchsorted(users, facts.user)]
        rows = np.repeat(np.flatnonzero(chosen), times[chosen])
        # Each time a user is drawn, it is a user of its own to GAUC.
        copy = np.concatenate([np.arange(n) for n in times[chosen]])
        label, logit = facts.label[rows], logits[rows]
        assert found["auc"][replicate] == pytest.approx(metrics.auc(label, logit), abs=1e-12)
        assert found["gauc"][replicate] == pytest.approx(
            metrics.gauc(label, logit, facts.user[rows] * 1000 + copy), abs=1e-12
        )
        assert found["log_loss"][replicate] == pytest.approx(
            metrics.log_loss(label, probabilities(logit)), abs=1e-12
        )


def test_every_user_once_gives_the_plain_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = make_facts(500, 20)
    logits = make_logits(facts, 0.5, 2)
    bootstrap = UserBootstrap(facts.user, replicates=3)
    monkeypatch.setattr(bootstrap, "_weights", np.ones((20, 3)))
    found = bootstrap.metrics(facts.label, logits, np.ones(500, bool))
    exact = row_metrics(facts.label, logits, facts.user)
    for name, values in found.items():
        np.testing.assert_allclose(values, exact[name], atol=1e-12)


def test_user_aucs_by_hand() -> None:
    user = np.array([0, 0, 0, 1, 1, 2])
    label = np.array([True, False, False, True, False, True])
    logit = np.array([0.5, 0.5, 0.1, -1.0, 3.0, 0.0])
    value, rows = user_aucs(user, label, logit)
    # User 0: level with one of two negatives, above the other. User 2 has one class.
    np.testing.assert_allclose(value[:2], [0.75, 0.0])
    assert math.isnan(value[2])
    np.testing.assert_array_equal(rows, [3, 2, 1])


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_the_t_interval_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).normal(0.01, 0.02, count)
    expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert t_interval(list(values)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_t_interval_of_many_seeds_is_not_too_narrow() -> None:
    values = np.random.default_rng(60).normal(0.01, 0.02, 60)
    low, high = stats.t.interval(0.95, 59, loc=values.mean(), scale=stats.sem(values))
    found = t_interval(list(values))
    assert found is not None
    assert 1 <= (found[1] - found[0]) / (high - low) < 1.04


def test_no_t_interval_of_one_seed_or_of_a_metric_that_is_not_there() -> None:
    assert t_interval([0.1]) is None
    assert t_interval([0.1, math.nan]) is None


def predictions_of(
    folder: Path, facts: RowFacts, name: str, strength: float, seeds: tuple[int, ...]
) -> Predictions:
    """Writes and reads predictions, the rows of each model in an order of its own."""
    order = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(facts))
    own = facts.take(order)
    rows = folder / f"{name}.npz"
    fields = RowFacts.__dataclass_fields__
    write_arrays(rows, {FACT + field: getattr(own, field) for field in fields})
    files = {}
    for seed in seeds:
        files[seed] = folder / f"{name}-{seed}.npz"
        logits = make_logits(facts, strength, seed)[order]
        write_arrays(files[seed], {"key": own.key, "label": own.label, "logit": logits})
    return Predictions.read(files, rows)


def test_a_model_is_compared_with_its_base_row_by_row_and_seed_by_seed(tmp_path: Path) -> None:
    facts = make_facts()
    found = {
        "base": predictions_of(tmp_path, facts, "base", 1.0, (1, 2, 3)),
        "better": predictions_of(tmp_path, facts, "better", 1.3, (2, 3, 4)),
    }
    comparer = Comparer(EDGES, 20, replicates=200)
    comparisons = comparer.compare("better", "base", found)
    slices = {(one.dimension, one.bucket): one for one in comparisons}
    assert set(slices) == {
        ("overall", "all"),
        ("length_bucket", "10+"),
        ("density_bucket", "0-4"),
        ("density_bucket", "5+"),
        ("history_length", "under 20"),
        *({("length_bucket", "0-9")} if np.sum(facts.history_length < 10) >= 1000 else set()),
    }
    overall = slices["overall", "all"]
    assert overall.seeds == (2, 3)
    expected = [
        metrics.auc(facts.label, make_logits(facts, 1.3, seed))
        - metrics.auc(facts.label, make_logits(facts, 1.0, seed))
        for seed in (2, 3)
    ]
    difference = overall.differences["auc"]
    assert difference.by_seed == pytest.approx(expected)
    assert difference.mean == pytest.approx(np.mean(expected))
    assert difference.user_interval is not None
    assert 0 < difference.user_interval[0] < difference.mean < difference.user_interval[1]
    assert not overall.is_below
    assert slices["history_length", "under 20"].examples == np.sum(facts.history_length < 20)
    [worse, *_] = comparer.compare("base", "better", found)
    assert worse.is_below
    assert worse.differences["auc"].mean == pytest.approx(-difference.mean)


def test_a_model_equals_itself(tmp_path: Path) -> None:
    facts = make_facts()
    found = {name: predictions_of(tmp_path, facts, name, 1.0, (1, 2)) for name in ("a", "b")}
    for one in Comparer(EDGES, 20, replicates=50).compare("a", "b", found):
        for difference in one.differences.values():
            assert difference.user_interval == pytest.approx((0.0, 0.0), abs=1e-12)
        assert not one.is_below


def test_models_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    found = {
        "a": predictions_of(tmp_path, make_facts(seed=1), "a", 1.0, (1,)),
        "b": predictions_of(tmp_path, make_facts(seed=2), "b", 1.0, (1,)),
    }
    with pytest.raises(ValueError, match="a and b were tested on different rows"):
        Comparer(EDGES, 20).compare("a", "b", found)


def test_predictions_of_an_example_set_that_is_no_more_are_refused(tmp_path: Path) -> None:
    predictions_of(tmp_path, make_facts(seed=1), "a", 1.0, (1,))
    predictions_of(tmp_path, make_facts(seed=2), "b", 1.0, (1,))
    with pytest.raises(ValueError, match="predictions of other rows"):
        Predictions.read({1: tmp_path / "a-1.npz"}, tmp_path / "b.npz")


def test_sliced_metrics_count_every_row_once_in_each_dimension() -> None:
    facts = make_facts(200)
    buckets = {features.LENGTH_BUCKET: facts.length_bucket}
    logits = make_logits(facts, 1.0, 0)
    found = sliced_metrics(
        facts.label, logits, facts.user, buckets, {features.LENGTH_BUCKET: [10, 1000]}
    )
    assert found["overall"]["examples"] == 200
    assert found["length_bucket"]["0-9"]["examples"] == np.sum(facts.history_length < 10)
    # A bucket that no row is in is there, and its metrics are not defined.
    assert found["length_bucket"]["1000+"] == {
        "examples": 0,
        "positives": 0,
        "auc": None,
        "gauc": None,
        "log_loss": None,
        "calibration": None,
    }
