"""Tests of the spectral length encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.config import SpectralLengthEncoderConfig
from models.layers.spectral_length_encoder import SpectralLengthEncoder
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, COUNT, LayerCase, value

CONFIG = SpectralLengthEncoderConfig(max_length=1000, dim=5, frequencies=3)
CASE = LayerCase(
    make=lambda: SpectralLengthEncoder(CONFIG),
    arguments={"length": COUNT},
    shapes=[(4, 5)],
    weights=[(3,), (3,), (6, 6), (6,), (6,), (6,), (6, 5), (5,), (5, 5), (5,)],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    lengths = np.array([0, 3, 999])
    frequencies = 2 * np.pi / np.array([8.0, np.sqrt(8 * 2000), 2000.0])
    frequencies = frequencies + 0.1 * value(layer.frequency_change)
    features = np.concatenate(
        [np.sin(lengths[:, None] * frequencies), np.cos(lengths[:, None] * frequencies)], axis=1
    )
    hidden = features @ value(layer.project.kernel) + value(layer.project.bias)
    hidden = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(
        hidden.var(axis=1, keepdims=True) + 1e-6
    )
    hidden = hidden * value(layer.norm.gamma) + value(layer.norm.beta)
    hidden = gelu(hidden @ value(layer.hidden.kernel) + value(layer.hidden.bias))
    expected = hidden @ value(layer.output_projection.kernel) + value(layer.output_projection.bias)
    np.testing.assert_allclose(layer(tf.constant(lengths)), expected, atol=2e-4)


def gelu(inputs: np.ndarray) -> np.ndarray:
    from math import erf, sqrt

    return inputs * 0.5 * (1 + np.vectorize(erf)(inputs / sqrt(2)))


@pytest.mark.parametrize("kind", ["raw", "log1p", "div_max"])
def test_every_input_form_spans_the_same_phases(kind: str) -> None:
    config = SpectralLengthEncoderConfig(max_length=1000, frequencies=3, length_input=kind)
    layer = SpectralLengthEncoder(config)
    layer(tf.constant([0]))
    features = np.array(layer.features(tf.constant([0, 1000])))
    np.testing.assert_allclose(features[0], [0, 0, 0, 1, 1, 1], atol=1e-6)
    # At the maximum length the longest wave has gone half way round.
    np.testing.assert_allclose([features[1, 2], features[1, 5]], [0, -1], atol=1e-4)


def test_lengths_above_the_maximum_count_as_the_maximum() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    vectors = np.array(layer(tf.constant([1000, 5000, 999])))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert (vectors[0] != vectors[2]).any()


def test_dropout_is_on_in_training_only() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    length = tf.range(50)
    assert (np.array(layer(length, training=True)) != np.array(layer(length))).any()
    np.testing.assert_array_equal(layer(length, training=False), layer(length, training=False))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="max_length 0: at least 1"):
        SpectralLengthEncoderConfig(max_length=0)
    with pytest.raises(ValueError, match=r"dropout 1\.0: 0 to below 1"):
        SpectralLengthEncoderConfig(max_length=9, dropout=1.0)
