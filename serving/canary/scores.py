"""Checks of answers that are at hand as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.canary.report import CanaryReport, Check
from serving.canary.requests import CanaryRequest
from serving.scoring.score import CLASSIFY_METHOD

POSITIVE_CLASS = b"1"
_CLASSES, _SCORES = "classes", "scores"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score for each row of a request, or for each candidate, user by user.

    Attributes:
        values: [rows].
        padding: what stands in the columns past a user's count.
    """

    values: np.ndarray
    padding: np.ndarray


def float_outputs(answer: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs that are numbers with a fraction."""
    return {name: array for name, array in answer.items() if array.dtype.kind == "f"}


def score_of(request: CanaryRequest, answer: Mapping[str, np.ndarray]) -> Score | None:
    """Returns the score in an answer, or None if it has none, or more than one, a row."""
    outputs = float_outputs(answer)
    none = np.zeros(0, np.float32)
    if request.method == CLASSIFY_METHOD and _SCORES in outputs and outputs[_SCORES].ndim == 2:
        scores, classes = outputs[_SCORES], answer.get(_CLASSES)
        if classes is not None and classes.shape == scores.shape:
            is_positive = classes == POSITIVE_CLASS
            if (is_positive.sum(axis=1) == 1).all():
                return Score(values=scores[is_positive], padding=none)
        return Score(values=scores[:, -1], padding=none)
    if len(outputs) != 1:
        return None
    (scores,) = outputs.values()
    if request.candidates is not None:
        if scores.ndim != 2 or len(scores) != len(request.rows):
            return None
        counts = np.array([len(chosen) for chosen in request.candidates])
        counted = np.arange(scores.shape[1]) < counts[:, np.newaxis]
        if counted.sum() != counts.sum():
            return None
        return Score(values=scores[counted], padding=scores[~counted])
    if scores.size != len(request.rows):
        return None
    return Score(values=scores.ravel(), padding=none)


def check_scores(
    report: CanaryReport, signature: str, answers: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Refuses scores that are no probabilities.

    Args:
        report: where it is noted.
        signature: name of the signature.
        answers: its outputs by name, an entry a request.
    """
    parts = [array.ravel() for answer in answers for array in float_outputs(answer).values()]
    values = np.concatenate([np.zeros(0, np.float32), *parts])
    if not values.size:
        report.refuse(Check.FINITE, "no output with scores", "at least one", signature)
        return
    wrong = values[~np.isfinite(values)]
    if wrong.size:
        report.refuse(
            Check.FINITE,
            f"{wrong.size} of {values.size} scores are not finite, the first is {wrong[0]}",
            "finite numbers",
            signature,
        )
    finite = values[np.isfinite(values)]
    outside = finite[(finite < 0) | (finite > 1)]
    if outside.size:
        report.refuse(
            Check.RANGE,
            f"{outside.size} of {values.size} scores lie outside, the furthest is "
            f"{outside[np.argmax(np.abs(outside - 0.5))]:.6g}",
            "0 to 1",
            signature,
        )


def check_constant(
    report: CanaryReport, signature: str, values: np.ndarray, tolerance: float
) -> None:
    """Refuses scores that are the same for all examples."""
    finite = values[np.isfinite(values)]
    if finite.size and float(finite.max()) - float(finite.min()) <= tolerance:
        report.refuse(
            Check.CONSTANT,
            f"all {values.size} scores are {finite[0]:.6g}",
            f"scores that differ by more than {tolerance:g}",
            signature,
        )


def check_same(
    report: CanaryReport,
    signature: str,
    base: str,
    pair: tuple[np.ndarray, np.ndarray],
    tolerance: float,
) -> None:
    """Refuses a signature that scores examples otherwise than another one does.

    Args:
        report: where it is noted.
        signature: name of the signature.
        base: name of the signature that it is compared with.
        pair: its scores and the other's, [rows] each.
        tolerance: largest accepted difference.
    """
    found, expected = pair
    apart = np.abs(found.astype(np.float64) - expected)
    wrong = np.flatnonzero(apart > tolerance)
    if wrong.size:
        worst = int(np.nanargmax(apart))
        report.refuse(
            Check.AGREEMENT,
            f"{wrong.size} of {apart.size} scores differ from {base!r}, at most {found[worst]:.6g} "
            f"against {expected[worst]:.6g}",
            f"a difference of at most {tolerance:g}",
            signature,
        )


def difference(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> tuple[float, str]:
    """Compares an answer with the expected one.

    Returns:
        The largest difference of two numbers, two NaN being the same, and what else differs, an
        empty text if nothing does.
    """
    if expected.keys() != found.keys():
        return 0.0, f"outputs {sorted(found)} instead of {sorted(expected)}"
    largest = 0.0
    for name, wanted in expected.items():
        given = found[name]
        if given.shape != wanted.shape:
            return largest, f"output {name!r} has the shape {given.shape} instead of {wanted.shape}"
        if wanted.dtype.kind != "f":
            if not np.array_equal(given, wanted):
                return largest, f"output {name!r} has other values"
            continue
        left, right = given.astype(np.float64), wanted.astype(np.float64)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        apart = np.where(same, 0.0, np.abs(left - right))
        if not np.isfinite(apart).all():
            return float("inf"), ""
        largest = max(largest, float(apart.max(initial=0.0)))
    return largest, ""
