"""Tests of the projection shared by events and separate for tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.mixed_projection import MixedProjection
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value


class Both(MixedProjection):
    """Calls both halves, so that every weight takes part."""

    def call(self, tokens: Any, sequence: Any, length_vector: Any) -> Any:
        return super().call(tokens, length_vector), self.of_sequence(sequence, length_vector)


CASE = LayerCase(
    make=lambda: Both(length_dim=2),
    arguments={"tokens": (3, 4), "sequence": (LENGTH, 4), "length_vector": (2,)},
    shapes=[(4, 3, 4), (4, 7, 4)],
    weights=[(4, 4), (3, 4, 4), (2, 4), (2, 3, 4)],
    invariant=lambda outputs: [outputs[0], outputs[1][:, -7:]],
)


@pytest.mark.parametrize(
    "check",
    [check for check in CHECKS if check is not layer_checks.check_save_and_reload],
    ids=lambda check: check.__name__,
)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_values_are_those_of_the_formula() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    tokens, events = layer_checks.call(layer, arrays)
    vector = arrays["length_vector"].astype(np.float64)
    for index in range(3):
        expected = arrays["tokens"][:, index] @ value(layer.token_kernel)[index]
        expected = expected + vector @ value(layer.token_length_kernel)[:, index]
        np.testing.assert_allclose(tokens[:, index], expected, atol=1e-5)
    expected = arrays["sequence"] @ value(layer.shared_kernel)
    expected = expected + (vector @ value(layer.shared_length_kernel))[:, None]
    np.testing.assert_allclose(events, expected, atol=1e-5)


def test_a_missing_length_vector_is_named() -> None:
    with pytest.raises(ValueError, match="length_vector is required"):
        MixedProjection(length_dim=2)(tf.ones([1, 3, 4]))
