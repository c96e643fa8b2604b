"""Holds the table of capabilities against the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.backbones.base import SequenceInputs
from models.backbones.config import LainOptions, LensOptions, Position
from models.backbones.latent_query import LatentQueryBackbone
from models.backbones.long_history import LongHistoryBackbone
from models.backbones.registry import CLASSES, make_backbone
from models.capabilities import CAPABILITIES, Backbone
from models.config import ModelConfig
from tests.models.profiles import make_profile

EVERY = pytest.mark.parametrize("backbone", list(CLASSES))


def sequence_inputs(rows: int = 4, length: int = 5, dim: int = 6) -> SequenceInputs:
    random = np.random.default_rng(0)
    lengths = np.arange(rows) % (length + 1)
    history = tf.constant(random.normal(size=[rows, length, dim]), tf.float32)
    return SequenceInputs.of_one_history(
        target=tf.constant(random.normal(size=[rows, dim]), tf.float32),
        history=history,
        mask=tf.constant(np.arange(length)[None] >= length - lengths[:, None]),
        length=tf.constant(lengths),
        non_sequence=tf.ones([rows, 3]),
        items=history,
    )


def make(backbone: Backbone, **axes: Any) -> Any:
    config = ModelConfig(backbone=backbone, **axes)
    return make_backbone(config, max_length=20, profile=make_profile())


def differs(layer: Any, part: str) -> bool:
    """Tells whether the output depends on a part of the inputs."""
    inputs = sequence_inputs()
    layer(inputs)
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:  # what starts at zero must not hide a dependence
        weight.assign(random.normal(scale=0.3, size=tuple(weight.shape)).astype(np.float32))
    changed = inputs._replace(**{part: getattr(inputs, part)[::-1] + 1})
    return not np.allclose(layer(inputs), layer(changed))


def test_every_capability_has_a_class_and_every_class_a_capability() -> None:
    assert set(CAPABILITIES) == {*CLASSES, Backbone.NONE} == set(Backbone)


@EVERY
def test_all_that_attend_read_the_target(backbone: Backbone) -> None:
    assert differs(make(backbone), "target") == (backbone is not Backbone.POOLED)


@EVERY
def test_reads_fields_is_what_the_class_does(backbone: Backbone) -> None:
    assert differs(make(backbone), "non_sequence") == CAPABILITIES[backbone].reads_fields


@EVERY
def test_branches_and_queries_are_what_the_class_has(backbone: Backbone) -> None:
    offers, made = CAPABILITIES[backbone], CLASSES[backbone]
    assert issubclass(made, LongHistoryBackbone) == offers.long_branch
    assert issubclass(made, LatentQueryBackbone) == offers.queries


@EVERY
def test_the_axes_that_a_backbone_offers_change_what_it_computes(backbone: Backbone) -> None:
    offers = CAPABILITIES[backbone]
    bare = np.array(make(backbone)(sequence_inputs()))
    if offers.short_branch:
        assert differs(make(backbone, lain=LainOptions()), "length")
        assert not differs(make(backbone), "length")
    if offers.queries:
        axes = {"lens": LensOptions(), "position": Position.QUERY_SPECIFIC}
        lens = make(backbone, **axes)
        assert lens(sequence_inputs()).shape == bare.shape
        # samples_per_item of the profile is below the crossover: the mean history conditions.
        assert differs(make(backbone, **axes), "items")
        assert not differs(make(backbone), "items")
