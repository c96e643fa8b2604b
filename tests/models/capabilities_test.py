"""Holds the table of capabilities against the classes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.backbones.base import SequenceInputs
from models.backbones.registry import CLASSES, make_backbone
from models.capabilities import CAPABILITIES, Backbone, usable_backbones
from models.config import ModelConfig


def sequence_inputs(rows: int = 4, length: int = 5, dim: int = 6) -> SequenceInputs:
    random = np.random.default_rng(0)
    lengths = np.arange(rows) % (length + 1)
    return SequenceInputs(
        target=tf.constant(random.normal(size=[rows, dim]), tf.float32),
        history=tf.constant(random.normal(size=[rows, length, dim]), tf.float32),
        mask=tf.constant(np.arange(length)[None] >= length - lengths[:, None]),
        length=tf.constant(lengths),
        non_sequence=tf.zeros([rows, 3]),
    )


def test_every_capability_has_a_class_and_every_class_a_capability() -> None:
    assert set(CAPABILITIES) == set(CLASSES)
    assert usable_backbones() == [backbone.value for backbone in CAPABILITIES]


@pytest.mark.parametrize("backbone", list(CAPABILITIES))
def test_reads_target_is_what_the_class_does(backbone: Backbone) -> None:
    layer = make_backbone(ModelConfig(backbone=backbone))
    inputs = sequence_inputs()
    changed = inputs._replace(target=inputs.target[::-1])
    differs = not np.allclose(layer(inputs), layer(changed))
    assert differs == CAPABILITIES[backbone].reads_target


@pytest.mark.parametrize("backbone", list(CAPABILITIES))
def test_softmax_is_what_the_class_does(backbone: Backbone) -> None:
    layer = make_backbone(ModelConfig(backbone=backbone))
    inputs = sequence_inputs()
    layer(inputs)
    assert hasattr(layer, "attention") == CAPABILITIES[backbone].softmax
    if CAPABILITIES[backbone].softmax:
        total = tf.reduce_sum(layer.attention(inputs), axis=-1)
        np.testing.assert_allclose(total, inputs.length.numpy() > 0, atol=1e-6)
