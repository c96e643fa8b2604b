"""Tests of DIN's activation unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.layers.din_activation_unit import DinActivationUnit
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, LayerCase, value

CASE = LayerCase(
    make=lambda: DinActivationUnit(hidden_units=(6, 3)),
    arguments={"target": (4,), "events": (LENGTH, 4)},
    shapes=[(4, 7)],
    weights=[(16, 6), (6,), (1, 6), (6, 3), (3,), (1, 3), (3, 1), (1,)],
    invariant=lambda output: [np.array(output)[:, -7:]],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_decomposed_form_equals_the_plain_one() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    arrays = layer_checks.example(CASE)
    target, events = arrays["target"], arrays["events"]
    repeated = np.broadcast_to(target[:, None, :], events.shape)
    hidden = np.concatenate([repeated, events, repeated - events, repeated * events], axis=-1)
    kernels = [layer.kernel, *(dense.kernel for dense in layer.later_layers)]
    biases = [layer.bias, *(dense.bias for dense in layer.later_layers)]
    for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        hidden = hidden @ value(kernel) + value(bias)
        if index < len(layer.activations):
            slope = value(layer.activations[index].alpha)
            hidden = np.where(hidden > 0, hidden, slope * hidden)
    np.testing.assert_allclose(
        layer_checks.call(layer, arrays), hidden[..., 0], rtol=1e-5, atol=1e-5
    )


def test_widths_must_be_given() -> None:
    with pytest.raises(ValueError, match="hidden_units"):
        DinActivationUnit(hidden_units=())
