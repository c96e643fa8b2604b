"""Mergeable statistics of scores and labels: one pass gives every metric of a slice.

AUC needs the order of all scores. The accumulator keeps, for each distinct float32 score, how
many positives and negatives have it, which is exact and, below about a million distinct scores,
cheap. Above that it gives up low bits of the scores, and states how far AUC can be off for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import metrics

MAX_DISTINCT_SCORES = 1 << 20
MAX_USER_ROWS = 1 << 22
_BUFFERED_ROWS = 1 << 16

_NO_SCORES = np.empty(0, np.float32)
_NO_KEYS = np.empty(0, np.uint32)
_NO_COUNTS = np.empty(0, np.int64)
_NO_USERS = np.empty(0, np.uint64)
_NO_LABELS = np.empty(0, np.bool_)


@dataclass(frozen=True)
class ScoreMetrics:
    """Metrics of one slice.

    Attributes:
        auc: probability that a positive scores above a negative, ties counting one half; NaN
            if only one class is present.
        auc_error_bound: largest possible difference between ``auc`` and the exact value; 0
            unless the slice holds more than ``MAX_DISTINCT_SCORES`` distinct scores.
        gauc: AUC within each user that has both classes, averaged with the user's impressions
            as weights; NaN if there is no such user.
        log_loss: mean negative log likelihood, in nats.
        calibration: mean score divided by mean label; NaN without a positive.
        example_count: examples.
        label_mean: share of positives.
        invalid_scores: scores that are no probabilities (NaN, infinite or outside [0, 1]); the
            metrics above that depend on a score are NaN if there is any.
    """

    auc: float
    auc_error_bound: float
    gauc: float
    log_loss: float
    calibration: float
    example_count: int
    label_mean: float
    invalid_scores: int


class ScoreAccumulator:
    """Collects scores, labels and users; the result does not depend on order or sharding.

    Args:
        max_distinct: distinct scores kept before low bits are given up. It bounds the memory
            at 20 bytes each.
        max_user_rows: rows kept for ``gauc``, at 13 bytes each. Beyond it ``gauc`` is that of
            a sample of users, taken by their hash.
    """

    __slots__ = (
        "_buffer",
        "_buffered",
        "_examples",
        "_invalid",
        "_keys",
        "_loss_sum",
        "_negatives",
        "_positive_labels",
        "_positives",
        "_score_sum",
        "_shift",
        "_user_labels",
        "_user_level",
        "_user_scores",
        "_users",
        "max_distinct",
        "max_user_rows",
    )

    def __init__(
        self, *, max_distinct: int = MAX_DISTINCT_SCORES, max_user_rows: int = MAX_USER_ROWS
    ) -> None:
        self.max_distinct = max_distinct
        self.max_user_rows = max_user_rows
        self._buffer: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        self._buffered = 0
        self._shift = 0
        self._keys = _NO_KEYS
        self._positives = _NO_COUNTS
        self._negatives = _NO_COUNTS
        self._user_level = 0
        self._users = _NO_USERS
        self._user_scores = _NO_SCORES
        self._user_labels = _NO_LABELS
        self._examples = 0
        self._invalid = 0
        self._positive_labels = 0
        self._score_sum = 0.0
        self._loss_sum = 0.0

    def add(self, labels: np.ndarray, scores: np.ndarray, users: np.ndarray | None = None) -> None:
        """Adds rows.

        Args:
            labels: 0 or 1, ``[rows]``.
            scores: probabilities, ``[rows]``.
            users: a hash of each row's user, uint64 ``[rows]``; rows without are left out of
                ``gauc``.

        Raises:
            ValueError: the lengths differ, or a label is neither 0 nor 1.
        """
        labels = np.asarray(labels).reshape(-1)
        scores = np.asarray(scores, np.float32).reshape(-1)
        if len(labels) != len(scores):
            raise ValueError(f"{len(labels)} labels for {len(scores)} scores")
        positive = labels == 1
        if not np.all(positive | (labels == 0)):
            odd = labels[~(positive | (labels == 0))][0]
            raise ValueError(f"label {odd}: 0 and 1 are accepted")
        self._buffer.append((positive, scores, users))
        self._buffered += len(scores)
        if self._buffered >= _BUFFERED_ROWS:
            self.compact()

    def merge(self, other: ScoreAccumulator) -> None:
        """Adds everything that ``other`` has seen."""
        self.compact()
        other.compact()
        self._examples += other._examples
        self._invalid += other._invalid
        self._positive_labels += other._positive_labels
        self._score_sum += other._score_sum
        self._loss_sum += other._loss_sum
        shift = max(self._shift, other._shift)
        keys = np.concatenate(
            [self._keys >> (shift - self._shift), other._keys >> (shift - other._shift)]
        )
        self._shift = shift
        self._count(
            keys,
            np.concatenate([self._positives, other._positives]),
            np.concatenate([self._negatives, other._negatives]),
        )
        self._user_level = max(self._user_level, other._user_level)
        self._keep_users(other._users, other._user_scores, other._user_labels)

    def compact(self) -> None:
        """Turns buffered rows into counts."""
        if not self._buffer:
            return
        positive = np.concatenate([rows[0] for rows in self._buffer])
        scores = np.concatenate([rows[1] for rows in self._buffer])
        with_users = [rows for rows in self._buffer if rows[2] is not None]
        self._examples += len(scores)
        self._positive_labels += int(positive.sum())
        valid = (scores >= 0) & (scores <= 1)
        self._invalid += int(len(scores) - valid.sum())
        # -0.0 and 0.0 are one score, and only the latter's bits are in order with the rest.
        scores_in_order = np.where(valid, scores, np.float32(0)) + np.float32(0)
        wide = scores_in_order.astype(np.float64)
        self._score_sum += float(wide.sum())
        self._loss_sum += metrics.log_loss(positive, wide) * len(wide)
        keys = scores_in_order.view(np.uint32) >> np.uint32(self._shift)
        counts = positive.astype(np.int64)
        self._count(
            np.concatenate([self._keys, keys]),
            np.concatenate([self._positives, counts]),
            np.concatenate([self._negatives, 1 - counts]),
        )
        if with_users:
            self._keep_users(
                np.concatenate([np.asarray(rows[2], np.uint64) for rows in with_users]),
                np.concatenate([rows[1] for rows in with_users]),
                np.concatenate([rows[0] for rows in with_users]),
            )
        self._buffer = []
        self._buffered = 0

    def result(self) -> ScoreMetrics:
        """Returns the metrics of all rows added so far."""
        self.compact()
        examples, positives = self._examples, self._positive_labels
        usable = self._invalid == 0
        auc, bound = auc_of_counts(self._positives, self._negatives)
        if self._shift == 0:
            bound = 0.0
        return ScoreMetrics(
            auc=auc if usable else math.nan,
            auc_error_bound=bound if usable else math.nan,
            gauc=(
                metrics.gauc(self._user_labels, self._user_scores, self._users)
                if usable
                else math.nan
            ),
            log_loss=self._loss_sum / examples if usable and examples else math.nan,
            calibration=self._score_sum / positives if usable and positives else math.nan,
            example_count=examples,
            label_mean=positives / examples if examples else math.nan,
            invalid_scores=self._invalid,
        )

    def _count(self, keys: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> None:
        while True:
            distinct, place = np.unique(keys, return_inverse=True)
            if len(distinct) <= self.max_distinct:
                break
            self._shift += 1
            keys = keys >> np.uint32(1)
        # bincount sums in float64, which holds whole numbers exactly up to 2**53.
        self._keys = distinct
        self._positives = np.bincount(place, positives, len(distinct)).astype(np.int64)
        self._negatives = np.bincount(place, negatives, len(distinct)).astype(np.int64)

    def _keep_users(self, users: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        users = np.concatenate([self._users, users])
        scores = np.concatenate([self._user_scores, scores])
        labels = np.concatenate([self._user_labels, labels])
        while True:
            kept = users & np.uint64((1 << self._user_level) - 1) == 0
            if kept.sum() <= self.max_user_rows or self._user_level >= 63:
                break
            self._user_level += 1
        self._users, self._user_scores, self._user_labels = users[kept], scores[kept], labels[kept]

    def __getstate__(self) -> dict[str, Any]:
        self.compact()
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def auc_of_counts(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, float]:
    """Returns the AUC of counted scores and the most that ties can hide.

    A pair of a positive and a negative at one score counts one half. If the scores were
    rounded, the pair may truly count 0 or 1, so the AUC is off by at most half the share of
    such pairs, which is the second value.

    Args:
        positives: positives at each score, in increasing order of score, ``[scores]``.
        negatives: negatives at each score, ``[scores]``.
    """
    pairs = float(positives.sum()) * float(negatives.sum())
    if not pairs:
        return math.nan, math.nan
    below = np.cumsum(negatives) - negatives
    tied = float(np.dot(positives.astype(np.float64), negatives.astype(np.float64)))
    won = float(np.dot(positives.astype(np.float64), below.astype(np.float64)))
    return (won + tied / 2) / pairs, tied / 2 / pairs
