"""Tests of the length-dependent temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import LengthModulation
from models.layers.length_temperature import LengthTemperature
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LayerCase, value

MODULATION = LengthModulation(mean_length=40.0, length_deviation=20.0)
CASE = LayerCase(
    make=lambda: LengthTemperature(MODULATION),
    arguments={"length": COUNT},
    shapes=[(4,)],
    weights=[(), ()],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_starts_at_the_configured_slope_and_range() -> None:
    tau = LengthTemperature(MODULATION)(tf.constant([40, 60, 20]))
    by_hand = [1.25, 1 + 0.5 / (1 + np.e), 1 + 0.5 / (1 + 1 / np.e)]
    np.testing.assert_allclose(tau, by_hand, rtol=1e-6)


@pytest.mark.parametrize("start", [1e-6, 1.0, 1000.0])
def test_any_start_above_zero_is_met(start: float) -> None:
    modulation = LengthModulation(mean_length=4.0, length_deviation=1.0, initial_range=start)
    tau = LengthTemperature(modulation)(tf.constant([4]))
    np.testing.assert_allclose(tau, [1 + start / 2], rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_lies_between_one_and_one_plus_gamma_and_falls_with_length(seed: int) -> None:
    layer = layer_checks.randomise_after_build(CASE)
    layer_checks.randomise(layer, seed=seed, scale=1.0)
    tau = np.array(layer(tf.range(0, 101)))
    gamma = np.log1p(np.exp(value(layer.raw_range)))
    assert (tau > 1).all()
    assert (tau < 1 + gamma).all()
    assert (np.diff(tau) < 0).all()


def test_a_deviation_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"length_deviation 0.0: above 0"):
        LengthModulation(mean_length=5.0, length_deviation=0.0)
