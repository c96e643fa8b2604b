"""Tests of DIEN's attention scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.bilinear_attention import BilinearAttention
from models.layers.config import LengthModulation
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LENGTH, MASK, LayerCase, value

MODULATION = LengthModulation(mean_length=3.0, length_deviation=2.0, length_dim=3)
CASE = LayerCase(
    make=lambda: BilinearAttention(state_dim=5, modulation=MODULATION),
    arguments={
        "target": (6,),
        "states": (LENGTH, 5),
        "event_mask": MASK,
        "length": COUNT,
        "length_vector": (3,),
    },
    shapes=[(4, 7)],
    weights=[(5, 6), (3, 5), (), ()],
    invariant=lambda output: [output[:, -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    found = layer_checks.call(layer, arrays)
    beta = np.log1p(np.exp(value(layer.temperature.raw_slope))) / 2.0
    gamma = np.log1p(np.exp(value(layer.temperature.raw_range)))
    for row in range(4):
        query = value(layer.kernel) @ arrays["target"][row]
        query = query + arrays["length_vector"][row] @ value(layer.length_kernel)
        tau = 1 + gamma / (1 + np.exp(beta * (arrays["length"][row] - 3.0)))
        expected = layer_checks.softmax(
            arrays["states"][row] @ query / tau, arrays["event_mask"][row]
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_starts_as_a_plain_product() -> None:
    layer = BilinearAttention(state_dim=4)
    target, states = tf.random.normal([2, 4], seed=1), tf.random.normal([2, 3, 4], seed=2)
    expected = layer_checks.softmax(np.einsum("bd,bld->bl", target, states))
    found = layer(target, states, tf.ones([2, 3], tf.bool))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_candidates_of_a_user_are_answered_as_if_alone() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    users, rows = layer_checks.with_candidates(CASE, ("target",))
    np.testing.assert_allclose(
        layer_checks.call(layer, users), layer_checks.call(layer, rows), atol=1e-6
    )
