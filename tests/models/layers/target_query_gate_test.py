"""Tests of the target-conditioned query gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.target_query_gate import TargetQueryGate
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LayerCase, value

CASE = LayerCase(
    make=lambda: TargetQueryGate(condition_dim=5),
    arguments={"queries": (3, 4), "condition": (5,)},
    shapes=[(4, 3, 4)],
    weights=[(5, 12)],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_starts_as_the_identity_bit_for_bit() -> None:
    arrays = layer_checks.example(CASE)
    np.testing.assert_array_equal(layer_checks.call(CASE.make(), arrays), arrays["queries"])


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    logits = arrays["condition"] @ value(layer.project.kernel)
    gate = 2 / (1 + np.exp(-logits.reshape(4, 3, 4)))
    np.testing.assert_allclose(layer.gate(tf.constant(arrays["condition"])), gate, atol=1e-5)
    expected = arrays["queries"] * gate
    np.testing.assert_allclose(layer_checks.call(layer, arrays), expected, atol=1e-5)


def test_has_the_paper_s_parameter_count() -> None:
    layer = TargetQueryGate(condition_dim=64)
    layer(tf.zeros([1, 12, 64]), tf.zeros([1, 64]))
    assert layer.count_params() == 49_152
