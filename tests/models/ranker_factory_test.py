"""Tests of making rankers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.weight_places import weights_by_place
from tests.models import tiny_training


def test_a_ranker_trained_in_bfloat16_is_exported_in_float32_with_its_weights() -> None:
    factory = tiny_training.make_factory(train={"mixed_precision": True})
    trained = factory.make()
    for number, weight in enumerate(trained.weights):
        weight.assign_add(np.full(weight.shape, 0.01 * number))
    exported = factory.make_for_serving(trained)
    assert (trained.compute_dtype, exported.compute_dtype) == ("bfloat16", "float32")
    weights = weights_by_place(trained)
    found = weights_by_place(exported)
    assert found.keys() == weights.keys()
    for place, weight in found.items():
        np.testing.assert_array_equal(weight.numpy(), weights[place].numpy(), err_msg=place)
    layers = [part for part in exported.submodules if isinstance(part, tf.keras.layers.Layer)]
    assert layers
    assert {layer.compute_dtype for layer in layers} == {"float32"}


def test_a_ranker_trained_in_float32_is_exported_as_it_is() -> None:
    factory = tiny_training.make_factory()
    trained = factory.make()
    assert factory.make_for_serving(trained) is trained
