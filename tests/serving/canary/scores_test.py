from __future__ import annotations

import numpy as np
import pytest

from serving.canary import scores as canary_scores
from serving.canary.config import CanaryConfig
from serving.canary.report import CanaryReport, Check
from serving.canary.requests import CanaryRequest
from serving.scoring.score import CLASSIFY_METHOD


def request(method: str = "", rows: int = 2, **kwargs: object) -> CanaryRequest:
    return CanaryRequest(
        signature="s",
        method=method,
        inputs={},
        rows=tuple(range(rows)),
        **kwargs,  # type: ignore[arg-type]
    )


def floats(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_score_of_classes_is_that_of_the_class_1() -> None:
    answer = {
        "classes": np.array([[b"1", b"0"], [b"0", b"1"]], object),
        "scores": floats([[0.9, 0.1], [0.8, 0.2]]),
    }
    score = canary_scores.score_of(request(CLASSIFY_METHOD), answer)
    assert score is not None
    assert score.values.tolist() == pytest.approx([0.9, 0.2])


def test_score_of_ranked_candidates_leaves_out_the_columns_past_the_count() -> None:
    ranked = request(candidates=((0, 1), (1,)))
    score = canary_scores.score_of(ranked, {"score": floats([[0.1, 0.2], [0.3, 0.7]])})
    assert score is not None
    assert score.values.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert score.padding.tolist() == pytest.approx([0.7])


@pytest.mark.parametrize(
    "answer",
    [
        {"a": floats([1, 2]), "b": floats([1, 2])},
        {"a": floats([[1, 2], [3, 4]])},
        {"a": np.array([1, 2])},
    ],
)
def test_an_answer_without_one_score_a_row_has_none(answer: dict[str, np.ndarray]) -> None:
    assert canary_scores.score_of(request(), answer) is None


def test_scores_must_be_finite_and_probabilities() -> None:
    report = CanaryReport()
    canary_scores.check_scores(report, "s", [{"a": floats([0.5, np.nan])}, {"a": floats([-0.1])}])
    assert [(one.check, one.found) for one in report.findings] == [
        (Check.FINITE, "1 of 3 scores are not finite, the first is nan"),
        (Check.RANGE, "1 of 3 scores lie outside, the furthest is -0.1"),
    ]
    fine = CanaryReport()
    canary_scores.check_scores(fine, "s", [{"a": floats([0.0, 1.0, 0.5])}])
    assert fine.findings == []


def test_scores_that_are_all_the_same_are_refused() -> None:
    report = CanaryReport()
    canary_scores.check_constant(report, "s", floats([0.5, 0.500001]), 1e-5)
    canary_scores.check_constant(report, "t", floats([0.5, 0.51]), 1e-5)
    assert [one.signature for one in report.findings] == ["s"]


def test_signatures_that_disagree_are_refused() -> None:
    report = CanaryReport()
    pair = floats([0.5, 0.4, 0.3]), floats([0.5, 0.4, 0.2])
    canary_scores.check_same(report, "s", "base", pair, 1e-5)
    (finding,) = report.findings
    assert "1 of 3 scores differ from 'base', at most 0.3 against 0.2" in str(finding)
    same = CanaryReport()
    canary_scores.check_same(same, "s", "base", (pair[0], pair[0] + floats(1e-6)), 1e-5)
    assert same.findings == []


@pytest.mark.parametrize(
    ("found", "largest", "other"),
    [
        ({"a": floats([1.0, np.nan]), "b": np.array([b"x"], object)}, 0.0, ""),
        ({"a": floats([1.5, np.nan]), "b": np.array([b"x"], object)}, 0.5, ""),
        ({"a": floats([1.0, 2.0]), "b": np.array([b"x"], object)}, np.inf, ""),
        ({"a": floats([1.0, np.nan]), "b": np.array([b"y"], object)}, 0.0, "'b' has other values"),
        ({"a": floats([1.0]), "b": np.array([b"x"], object)}, 0.0, "'a' has the shape (1,)"),
        ({"a": floats([1.0, np.nan])}, 0.0, "outputs ['a'] instead of ['a', 'b']"),
    ],
)
def test_answers_are_compared_by_number_and_by_value(
    found: dict[str, np.ndarray], largest: float, other: str
) -> None:
    expected = {"a": floats([1.0, np.nan]), "b": np.array([b"x"], object)}
    difference, text = canary_scores.difference(expected, found)
    assert difference == largest
    assert other in text
    assert bool(text) == bool(other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("examples", 1),
        ("tolerance", 0),
        ("latency_p99_ms", -1),
        ("latency_calls", 0),
        ("batch_sizes", ()),
        ("batch_sizes", (0, 1)),
        ("batch_sizes", (4, 4)),
        ("timeout_seconds", 0),
    ],
)
def test_a_bad_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        CanaryConfig(**{key: value})  # type: ignore[arg-type]
