"""Tests of SIM's search unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.soft_search import SoftSearch
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

CASE = LayerCase(
    make=lambda: SoftSearch(search_dim=5, count=3),
    arguments={"target": (6,), "history": (LENGTH, 6), "event_mask": MASK},
    shapes=[(4, 3, 6), (4, 3), (4, 3), (4, 6)],
    weights=[(6, 5), (6, 5)],
    invariant=lambda found: [
        tf.where(found.event_mask[..., None], found.events, 0.0),
        found.event_mask,
        found.pooled,
    ],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE, real=(7, 5, 2))
    found = layer_checks.call(layer, arrays)
    for row, count in enumerate((7, 5, 2)):
        events = arrays["history"][row][7 - count :].astype(np.float64)
        query = arrays["target"][row] @ value(layer.target_kernel)
        scores = events @ value(layer.event_kernel) @ query
        np.testing.assert_allclose(found.pooled[row], scores @ events, atol=1e-4)
        best = np.argsort(-scores)[:3] + 7 - count
        kept = np.array(found.event_mask[row])
        assert np.array(found.positions[row])[kept].tolist() == best.tolist()
        np.testing.assert_array_equal(
            np.array(found.events[row])[kept], arrays["history"][row][best]
        )


def test_padding_is_never_retrieved_also_where_real_scores_are_negative() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    # Padding of zeros scores 0, which beats every negative score.
    arrays["history"] = np.where(arrays["event_mask"][..., None], arrays["history"], 0.0)
    found = layer_checks.call(layer, arrays)
    assert np.array(found.event_mask).sum(axis=1).tolist() == [0, 1, 2, 3]
    picked = np.take_along_axis(arrays["event_mask"], np.array(found.positions), axis=1)
    assert picked[np.array(found.event_mask)].all()


def test_only_the_pooled_sum_trains_the_search() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    with tf.GradientTape(persistent=True) as tape:
        found = layer_checks.call(layer, arrays)
        chosen, pooled = tf.reduce_sum(found.events), tf.reduce_sum(found.pooled)
    assert tape.gradient(chosen, layer.trainable_weights) == [None, None]
    assert all(
        np.array(gradient).any() for gradient in tape.gradient(pooled, layer.trainable_weights)
    )


def test_candidates_of_a_user_are_answered_as_if_alone() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    users, rows = layer_checks.with_candidates(CASE, ("target",))
    together, alone = layer_checks.call(layer, users), layer_checks.call(layer, rows)
    np.testing.assert_array_equal(together.positions, alone.positions)
    np.testing.assert_allclose(together.pooled, alone.pooled, atol=1e-5)
