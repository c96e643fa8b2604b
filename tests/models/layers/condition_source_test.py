"""Tests of the condition vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.condition_source import ConditionSource
from models.layers.config import ConditionKind, choose_condition
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase

ARGUMENTS = {"target": (4,), "history": (LENGTH, 4), "event_mask": MASK}
CASES = {
    "item": LayerCase(
        make=lambda: ConditionSource("item"), arguments=ARGUMENTS, shapes=[(4, 4)], weights=[]
    ),
    "item_and_sequence": LayerCase(
        make=lambda: ConditionSource("item_and_sequence"),
        arguments=ARGUMENTS,
        shapes=[(4, 8)],
        weights=[],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


def test_the_mean_is_over_real_events_and_zero_without_any() -> None:
    arrays = layer_checks.example(CASES["item_and_sequence"])
    condition = np.array(layer_checks.call(ConditionSource("item_and_sequence"), arrays))
    np.testing.assert_array_equal(condition[:, :4], arrays["target"])
    history = arrays["history"]
    np.testing.assert_array_equal(condition[0, 4:], 0)
    np.testing.assert_allclose(condition[1, 4:], history[1, -1], rtol=1e-6)
    np.testing.assert_allclose(condition[2, 4:], history[2, -2:].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(condition[3, 4:], history[3].mean(axis=0), rtol=1e-5)


def test_candidates_share_their_user_s_mean() -> None:
    layer = ConditionSource("item_and_sequence")
    history, mask = tf.random.normal([2, 5, 4]), tf.ones([2, 5], tf.bool)
    target = tf.random.normal([6, 4])
    condition = np.array(layer(target, history, mask))
    expected = np.repeat(np.array(history).mean(axis=1), 3, axis=0)
    np.testing.assert_allclose(condition[:, 4:], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("samples_per_item", "chosen"),
    [(1000.0, "item"), (59.0, "item"), (50.0, "item_and_sequence"), (1.1, "item_and_sequence")],
)
def test_auto_follows_samples_per_item(samples_per_item: float, chosen: str) -> None:
    assert choose_condition("auto", samples_per_item) is ConditionKind(chosen)
    layer = ConditionSource(samples_per_item=samples_per_item)
    assert layer.resolved is ConditionKind(chosen)


def test_auto_needs_samples_per_item() -> None:
    with pytest.raises(ValueError, match="samples_per_item is required"):
        ConditionSource("auto")
