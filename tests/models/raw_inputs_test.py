"""Tests of bringing requests into the form that the Transform graph wants."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models import raw_inputs
from models.plan import CANDIDATE_COUNT
from schemas import features
from tests.models.family_members import config_of
from tests.models.family_test import plan_of
from tests.models.rank_requests import make_users, to_request

PLAN = plan_of(config_of({"backbone": "din"}))
COUNTS = (features.HISTORY_LENGTH, CANDIDATE_COUNT)


def request() -> dict[str, tf.Tensor]:
    """Two users with three candidates and one, in four columns."""
    values = to_request(*make_users([2, 1], [3, 1]), spare=1)
    types = {feature.name: feature.dtype for feature in raw_inputs.raw_features(PLAN)}
    types |= dict.fromkeys(COUNTS, tf.int64)
    return {name: tf.constant(values[name], dtype) for name, dtype in types.items()}


def test_candidates_are_cut_to_the_columns_that_are_filled() -> None:
    cut = raw_inputs.cut_candidates(request(), PLAN)
    for feature in raw_inputs.raw_features(PLAN):
        expected = request()[feature.name]
        if feature.of_candidate:
            expected = expected[:, :3]
        np.testing.assert_array_equal(cut[feature.name], expected)


@pytest.mark.parametrize(
    "name",
    [
        *(feature.name for feature in raw_inputs.raw_features(PLAN) if not feature.of_candidate),
        *COUNTS,
    ],
)
def test_what_is_of_users_has_a_row_for_each(name: str) -> None:
    for rows in (1, 3):
        tensors = request()
        tensors[name] = tf.repeat(tensors[name][:1], rows, axis=0)
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{name}.*: as many rows as it"):
            raw_inputs.cut_candidates(tensors, PLAN)
