"""Tests of the long-history, recurrent and latent-query backbones, bare and with LAIN and LENS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from models.backbones.base import SequenceInputs
from models.backbones.config import (
    HyformerOptions,
    LengthAdaptation,
    LongHistoryOptions,
    MixformerOptions,
    OneTransOptions,
    TargetConditioning,
)
from models.backbones.dien import DienBackbone
from models.backbones.eta import EtaBackbone
from models.backbones.hyformer import HyformerBackbone
from models.backbones.mixformer import MixformerBackbone
from models.backbones.onetrans import OneTransBackbone
from models.backbones.sdim import SdimBackbone
from models.backbones.sim import SimBackbone
from models.backbones.twin import TwinBackbone
from models.layers import candidates

DIM = 6
LONG = LongHistoryOptions(
    attention_dim=8, heads=2, short_length=3, retrieved=4, search_dim=4, hash_bits=3
)
LAIN = LengthAdaptation(max_length=20, mean_length=4.0, length_deviation=3.0, length_dim=8)
LENS = TargetConditioning(
    max_length=20,
    position="query_specific",
    query_gate=True,
    position_bias=True,
    source="item_and_sequence",
)
HYFORMER = HyformerOptions(queries=3, dim=8, layers=2, heads=2)
MIXFORMER = MixformerOptions(heads=2, dim=8, layers=2)
ONETRANS = OneTransOptions(dim=8, layers=2, heads=2, side_tokens=2)

RETRIEVING: dict[str, Callable[..., Any]] = {
    "sim": lambda lain=None: SimBackbone(LONG, lain),
    "eta": lambda lain=None: EtaBackbone(LONG, lain),
    "sdim": lambda lain=None: SdimBackbone(LONG, lain),
    "twin": lambda lain=None: TwinBackbone(LONG, lain),
    "dien": lambda lain=None: DienBackbone(None, lain),
}
LATENT: dict[str, Callable[..., Any]] = {
    "hyformer": lambda lens=None, lain=None: HyformerBackbone(HYFORMER, lens, lain),
    "mixformer": lambda lens=None, lain=None: MixformerBackbone(MIXFORMER, lens, lain),
    "onetrans": lambda lens=None, lain=None: OneTransBackbone(ONETRANS, lens, lain),
}
ALL: dict[str, Callable[[], Any]] = {
    **RETRIEVING,
    **LATENT,
    **{f"{name}_lain": lambda make=make: make(lain=LAIN) for name, make in RETRIEVING.items()},
    **{
        f"{name}_both": lambda make=make: make(lens=LENS, lain=LAIN)
        for name, make in LATENT.items()
    },
}
WIDTHS = {"dien": DIM, "hyformer": 24, "mixformer": 16, "onetrans": 16}
EVERY = pytest.mark.parametrize("name", ALL)
# What is adapted holds all parts of what is not.
ADAPTED = pytest.mark.parametrize("name", [name for name in ALL if "_" in name])


def inputs_of(lengths: list[int], *, padded: int, candidates: int = 1) -> SequenceInputs:
    """Rows whose events do not depend on the padding; padding is noise."""
    random = np.random.default_rng(0)
    rows = len(lengths)
    events = random.normal(size=[rows, 9, DIM])
    target = random.normal(size=[rows * candidates, DIM])
    fields = random.normal(size=[rows * candidates, 3])
    history = np.random.default_rng(padded).normal(size=[rows, padded, DIM])
    kept = min(padded, 9)
    history[:, padded - kept :] = events[:, 9 - kept :]
    mask = np.arange(padded) >= padded - np.array(lengths, int)[:, None]
    return SequenceInputs.of_one_history(
        target=tf.constant(target, tf.float32),
        history=tf.constant(history, tf.float32),
        mask=tf.constant(mask),
        length=tf.constant(lengths, tf.int32),
        non_sequence=tf.constant(fields, tf.float32),
        items=tf.constant(history - 1, tf.float32),
    )


def randomise(layer: Any) -> Any:
    layer(inputs_of([1, 9], padded=9))
    generator = np.random.default_rng(3)
    for weight in layer.trainable_weights:
        weight.assign(generator.normal(scale=0.3, size=tuple(weight.shape)).astype(np.float32))
    return layer


@EVERY
def test_padding_makes_no_difference(name: str) -> None:
    layer = randomise(ALL[name]())
    short = layer(inputs_of([0, 1, 3, 9], padded=9))
    long = layer(inputs_of([0, 1, 3, 9], padded=14))
    assert short.shape == (4, WIDTHS.get(name.split("_")[0], 2 * DIM))
    np.testing.assert_allclose(short, long, atol=2e-5)


@EVERY
def test_every_length_is_finite_with_finite_gradient(name: str) -> None:
    layer = ALL[name]()
    for lengths, padded in (([0, 1, 2, 9], 9), ([0], 9), ([0, 0], 0), ([], 9)):
        inputs = inputs_of(lengths, padded=padded)
        with tf.GradientTape() as tape:
            tape.watch([inputs.target, inputs.history])
            output = layer(inputs)
            loss = tf.reduce_sum(tf.square(output))
        assert np.isfinite(output).all()
        sources = [inputs.target, inputs.history, *layer.trainable_weights]
        for gradient in tape.gradient(loss, sources):
            assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


@ADAPTED
def test_candidates_of_a_user_are_answered_as_if_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    layer = randomise(ALL[name]())
    together = inputs_of([2, 5], padded=9, candidates=3)
    repeated = {
        key: tf.repeat(getattr(together, key), 3, axis=0)
        for key in ("history", "mask", "length", "items", "items_mask", "second", "second_mask")
    }
    alone = layer(together._replace(**repeated))
    np.testing.assert_allclose(layer(together), alone, atol=2e-5)
    np.testing.assert_allclose(layer(together, shared_history=True), alone, atol=2e-5)
    monkeypatch.setattr(candidates, "CHUNK_NUMBERS", 1)  # one candidate at a time
    np.testing.assert_allclose(layer(together, shared_history=True), alone, atol=2e-5)


@ADAPTED
def test_trains_a_step_under_mixed_precision(name: str) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = ALL[name]()
        with tf.GradientTape() as tape:
            output = tf.cast(layer(inputs_of([0, 1, 3, 9], padded=9)), tf.float32)
            loss = tf.reduce_sum(tf.square(output - 1))
        gradients = tape.gradient(loss, layer.trainable_weights)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(float(loss))
    used = [
        (g, w) for g, w in zip(gradients, layer.trainable_weights, strict=True) if g is not None
    ]
    assert all(np.isfinite(tf.cast(g, tf.float32)).all() for g, _ in used)
    unused = len(gradients) - len(used)
    # SIM's search learns from its auxiliary prediction.
    assert unused == 0 or name.startswith("sim")


@ADAPTED
def test_round_trips_its_configuration(name: str) -> None:
    layer = ALL[name]()
    config = json.loads(json.dumps(layer.get_config()))
    assert json.loads(json.dumps(type(layer).from_config(config).get_config())) == config


# Inputs of which nothing but the widths is known, as an export has them.
UNKNOWN = [
    tf.TensorSpec(
        [None] + [None] * (part not in ("target", "length", "non_sequence")) + tail, dtype
    )
    for part, tail, dtype in (
        ("target", [DIM], tf.float32),
        ("history", [DIM], tf.float32),
        ("mask", [], tf.bool),
        ("length", [], tf.int32),
        ("non_sequence", [3], tf.float32),
        ("items", [DIM], tf.float32),
        ("items_mask", [], tf.bool),
        ("second", [DIM], tf.float32),
        ("second_mask", [], tf.bool),
    )
]


@ADAPTED
def test_requests_without_candidates_or_users_are_answered(name: str) -> None:
    """Traced: some of oneDNN's fused products end the process if a size is 0."""
    layer = randomise(ALL[name]())
    rank = tf.function(
        lambda *parts: layer(SequenceInputs(*parts), shared_history=True), input_signature=UNKNOWN
    )
    inputs = inputs_of([2, 5], padded=9, candidates=3)
    np.testing.assert_allclose(rank(*inputs), layer(inputs), atol=2e-5)
    for users, columns in ((2, 0), (0, 3)):
        some = inputs._replace(
            **{
                part: getattr(inputs, part)[
                    : users * columns if part in ("target", "non_sequence") else users
                ]
                for part in inputs._fields
            }
        )
        assert rank(*some).shape[0] == 0


@ADAPTED
def test_an_export_with_unknown_sizes_agrees(name: str, tmp_path: Path) -> None:
    layer = randomise(ALL[name]())
    inputs = inputs_of([0, 1, 3, 9], padded=9)
    module = tf.Module()
    module.kept = layer.weights  # not the layer: Keras would trace every part of it
    module.run = tf.function(lambda *parts: layer(SequenceInputs(*parts)), input_signature=UNKNOWN)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.run(*inputs), layer(inputs), atol=1e-5)


@pytest.mark.parametrize("name", LATENT)
def test_lens_starts_as_query_positions_and_as_the_bare_backbone(name: str) -> None:
    inputs = inputs_of([0, 1, 3, 9], padded=9)
    bare = LATENT[name]()
    expected = bare(inputs)
    for lens in (replace(LENS, query_gate=False, position_bias=False), LENS):
        layer = LATENT[name](lens)
        layer(inputs)
        copy_shared_weights(bare, layer)
        np.testing.assert_array_equal(layer(inputs), expected)


@pytest.mark.parametrize("name", [*RETRIEVING, *LATENT])
def test_lain_with_all_off_is_the_backbone_and_conditioning_starts_as_it(name: str) -> None:
    inputs = inputs_of([0, 1, 3, 9], padded=9)
    make = RETRIEVING.get(name) or LATENT[name]
    bare = make()
    expected = bare(inputs)
    off = replace(LAIN, prompts=0, temperature=False)
    for lain in (replace(off, query_key_conditioning=False), off):
        layer = make(lain=lain)
        layer(inputs)
        copy_shared_weights(bare, layer)
        np.testing.assert_array_equal(layer(inputs), expected)


def copy_shared_weights(source: Any, destination: Any) -> None:
    """Copies by name; what LAIN and LENS add has names of its own."""

    # Keras 2 puts the layers' names in front.
    def tail(weight: Any) -> str:
        return weight.name.split("/", 1)[1]

    known = {tail(weight): weight for weight in source.weights}
    found = {tail(weight): weight for weight in destination.weights}
    assert len(known) == len(source.weights)
    assert set(known) <= set(found)
    for key, weight in known.items():
        found[key].assign(weight)


@pytest.mark.parametrize("name", ["sim", "eta", "sdim", "twin"])
def test_the_long_branch_alone_or_the_short_one_can_be_adapted(name: str) -> None:
    inputs = inputs_of([0, 1, 3, 9], padded=9)
    bare = RETRIEVING[name]()
    expected = np.array(bare(inputs))
    for switch, same in (("short_branch", slice(0, DIM)), ("long_branch", slice(DIM, 2 * DIM))):
        layer = RETRIEVING[name](lain=replace(LAIN, **{switch: False}))
        layer(inputs)
        copy_shared_weights(bare, layer)
        found = np.array(layer(inputs))
        np.testing.assert_array_equal(found[:, same], expected[:, same])
        assert (found != expected).any()


def test_sim_learns_its_search_from_the_auxiliary_prediction() -> None:
    layer = RETRIEVING["sim"]()
    inputs = inputs_of([0, 1, 3, 9], padded=9)
    layer(inputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer.auxiliary_logit(inputs))
    assert layer.auxiliary_logit(inputs).shape == (4,)
    gradients = tape.gradient(loss, layer.search.trainable_weights)
    assert all(np.array(gradient).any() for gradient in gradients)


@pytest.mark.parametrize("position", ["none", "global", "absolute", "query_specific"])
def test_every_position_mechanism_runs(position: str) -> None:
    lens = TargetConditioning(max_length=20, position=position)
    layer = randomise(HyformerBackbone(HYFORMER, lens))
    bare = randomise(HyformerBackbone(HYFORMER))
    inputs = inputs_of([9, 5], padded=9)
    extra = len(layer.weights) - len(bare.weights)
    assert extra == {"none": 0, "global": 2, "absolute": 1, "query_specific": 2}[position]
    assert np.isfinite(layer(inputs)).all()


@pytest.mark.parametrize(
    "switch", [{"sequence_pooling": False}, {"side_tokens": 2}, {"per_query_feed_forward": True}]
)
def test_hyformer_s_switches_change_its_weights(switch: dict[str, Any]) -> None:
    plain = randomise(HyformerBackbone(HYFORMER))
    layer = randomise(HyformerBackbone(replace(HYFORMER, **switch)))
    assert layer.count_params() != plain.count_params()
    assert layer(inputs_of([0, 9], padded=9)).shape == (2, 24)


def test_mixformer_may_restart_from_the_history_in_each_block() -> None:
    layer = randomise(MixformerBackbone(MIXFORMER))
    other = randomise(MixformerBackbone(replace(MIXFORMER, chained=False)))
    inputs = inputs_of([3, 9], padded=9)
    assert (np.array(layer(inputs)) != np.array(other(inputs))).any()


def test_onetrans_can_be_causal() -> None:
    layer = randomise(OneTransBackbone(replace(ONETRANS, causal=True), LENS, LAIN))
    inputs = inputs_of([2, 5], padded=9, candidates=3)
    assert layer(inputs).shape == (6, 16)


def two_histories(lengths: list[int], other: list[int], *, padded: int = 9) -> SequenceInputs:
    first, second = (inputs_of(part, padded=padded) for part in (lengths, other))
    return first._replace(second=2 * second.history, second_mask=second.mask)


def test_each_half_of_the_queries_reads_its_own_history() -> None:
    options = replace(HYFORMER, queries=4, layers=1, sequence_pooling=False)
    layer = randomise(HyformerBackbone(options, LENS, LAIN, histories=2))
    inputs = two_histories([3, 9], [5, 1])
    layer.blocks[0].boost = lambda queries, side: tf.zeros_like(queries)  # mixing is joint
    whole = np.array(layer(inputs)).reshape(2, 4, 8)
    other = np.array(layer(inputs._replace(second=inputs.second + 1))).reshape(2, 4, 8)
    np.testing.assert_array_equal(whole[:, :2], other[:, :2])
    assert (whole[:, 2:] != other[:, 2:]).any(axis=(1, 2)).all()


def test_two_histories_have_positions_of_their_own() -> None:
    layer = randomise(HyformerBackbone(replace(HYFORMER, queries=4), LENS, histories=2))
    positions = layer.positions
    assert [bias.queries for bias in positions.position_biases] == [2, 2, 2, 2]
    assert [bias.queries for bias in positions.target_biases] == [2, 2, 2, 2]
    assert layer.projections[0].kernel is not layer.projections[1].kernel


@pytest.mark.parametrize("position", ["global", "absolute", "query_specific"])
def test_padding_of_two_histories_makes_no_difference(position: str) -> None:
    lens = replace(LENS, position=position)
    layer = randomise(HyformerBackbone(replace(HYFORMER, queries=4), lens, LAIN, histories=2))
    lengths, other = [0, 1, 3, 9], [2, 9, 0, 1]
    short = two_histories(lengths, other)
    longer = inputs_of(other, padded=14)
    long = short._replace(second=2 * longer.history, second_mask=longer.mask)
    np.testing.assert_allclose(layer(short), layer(long), atol=2e-5)
