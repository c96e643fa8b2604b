"""What each backbone makes of its layers, against the same layers called row by row.

A row here has no padding: its real events alone, with prompts before them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.backbones.base import SequenceInputs
from models.backbones.hyformer import HyformerBackbone
from models.backbones.mixformer import MixformerBackbone
from models.backbones.onetrans import OneTransBackbone
from tests.models.backbones.family_test import (
    DIM,
    HYFORMER,
    LAIN,
    LENS,
    LONG,
    MIXFORMER,
    ONETRANS,
    RETRIEVING,
    inputs_of,
    randomise,
)

LENGTHS = [1, 3, 9]
INPUTS = inputs_of(LENGTHS, padded=9)


class Row:
    """One row of the inputs and what LAIN makes of its length."""

    def __init__(self, layer: Any, index: int, *, project: Any = None) -> None:
        count = LENGTHS[index]
        alone = SequenceInputs(*(part[index : index + 1] for part in INPUTS))
        self.target = alone.target
        self.fields = tf.concat([alone.non_sequence, alone.target], axis=-1)
        self.events = alone.history[:, -count:]
        self.items = alone.items[:, -count:]
        self.projected = self.events if project is None else project(self.events)
        self.length = tf.constant([count])
        self.vector = layer.context.encoder(self.length)
        self.prompts = layer.context.prompts(self.vector)

    def slots(self, events: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Prompts and events, all of them there."""
        joined = tf.concat([self.prompts, events], axis=1)
        return joined, tf.ones(joined.shape[:2], tf.bool)

    def attend(self, attention: Any, events: tf.Tensor) -> tf.Tensor:
        """What the target reads of prompts and events."""
        query = self.target[:, None]
        return attention(query, *self.slots(events), None, self.length, self.vector)[:, 0]

    def best(self, scores: np.ndarray) -> tf.Tensor:
        """The events of the highest scores."""
        return tf.gather(self.events, np.argsort(-scores, kind="stable")[: LONG.retrieved], axis=1)


def long_interest(name: str, layer: Any, row: Row) -> tf.Tensor:
    target, events = row.target[0].numpy(), row.events[0].numpy()
    if name == "twin":
        there = tf.ones(row.events.shape[:2], tf.bool)
        return layer.long_attention(
            row.target, row.events, there, row.prompts, row.length, row.vector
        )
    if name == "sim":
        query = target @ layer.search.target_kernel.numpy()
        scores = events @ layer.search.event_kernel.numpy() @ query
        return row.attend(layer.long_attention, row.best(scores))
    plane = (layer.search if name == "eta" else layer.buckets).projection.numpy()
    agree = (events @ plane > 0) == (target @ plane > 0)
    if name == "eta":  # of equal distances the most recent
        scores = agree.sum(axis=1) + np.arange(len(events)) / 100
        return row.attend(layer.long_attention, row.best(scores))
    in_bucket = agree.reshape(len(events), LONG.hashes, LONG.hash_bits).all(axis=2)
    sums = np.einsum("lm,ld->md", in_bucket, events) + row.prompts[0].numpy().sum(axis=0)
    return sums.mean(axis=0)[None]


@pytest.mark.parametrize("name", ["sim", "eta", "sdim", "twin"])
def test_both_branches_read_the_prompts_and_their_own_events(name: str) -> None:
    layer = randomise(RETRIEVING[name](LAIN))
    found = layer(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index)
        short = row.attend(layer.short_attention, row.events[:, -LONG.short_length :])
        long = long_interest(name, layer, row)
        np.testing.assert_allclose(found[index], np.concatenate([short[0], long[0]]), atol=2e-5)


def test_the_search_of_sim_is_taught_by_fields_target_and_pooled_events() -> None:
    layer = randomise(RETRIEVING["sim"](LAIN))
    found = layer.auxiliary_logit(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index)
        query = row.target @ layer.search.target_kernel
        scores = row.events[0] @ layer.search.event_kernel @ tf.transpose(query)  # [length, 1]
        pooled = tf.reduce_sum(scores * row.events[0], axis=0)[None]
        hidden, logit = layer.auxiliary
        expected = logit(tf.nn.relu(hidden(tf.concat([row.fields, pooled], axis=-1))))
        np.testing.assert_allclose(found[index], expected[0, 0], atol=2e-4)


def test_dien_follows_the_states_of_its_first_gru() -> None:
    layer = randomise(RETRIEVING["dien"](LAIN))
    found = layer(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index)
        slots, there = row.slots(row.events)
        states = layer.extraction(slots, there).states
        weights = layer.attention(row.target, states, there, row.length, row.vector)
        expected = layer.evolution(states, there, weights).last
        np.testing.assert_allclose(found[index], expected[0], atol=2e-5)


def biases_of(layer: Any, row: Row) -> list[np.ndarray]:
    """The position bias of each block, worked out from the tables."""
    condition = condition_of(row)
    found = []
    for curves, bent in zip(
        layer.positions.position_biases, layer.positions.target_biases, strict=True
    ):
        multipliers = condition @ bent.project.kernel.numpy()
        multipliers = multipliers.reshape(-1, LENS.rank)  # [queries, rank]
        bias = curves.table.numpy().T + multipliers @ bent.table.numpy().T
        found.append(bias[None, :, -row.events.shape[1] :])
    return found


def condition_of(row: Row) -> np.ndarray:
    return np.concatenate([row.target[0], row.items[0].numpy().mean(axis=0)])


def gated(layer: Any, row: Row, queries: tf.Tensor) -> tf.Tensor:
    logits = condition_of(row) @ layer.positions.gate.project.kernel.numpy()
    return queries * (2 / (1 + np.exp(-logits.reshape(queries.shape))))


def test_hyformer_generates_gates_and_runs_its_queries() -> None:
    layer = randomise(HyformerBackbone(replace(HYFORMER, side_tokens=2), LENS, LAIN))
    found = layer(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index, project=layer.projections[0])
        pooled = tf.reduce_mean(row.projected, axis=1)
        queries = gated(layer, row, layer.generation(row.fields, pooled))
        side = tf.reshape(layer.side(row.fields), [1, 2, HYFORMER.dim])
        slots = row.slots(row.projected)
        for block, bias in zip(layer.blocks, biases_of(layer, row), strict=True):
            queries = block(queries, *slots, side, bias, row.length, row.vector)
        np.testing.assert_allclose(found[index], tf.reshape(queries, [-1]), atol=5e-5)


@pytest.mark.parametrize("chained", [True, False])
def test_mixformer_splits_its_fields_and_hands_the_history_on(chained: bool) -> None:
    layer = randomise(MixformerBackbone(replace(MIXFORMER, chained=chained), LENS, LAIN))
    found = layer(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index, project=layer.project)
        width = layer.head_kernel.shape[1]
        fields = np.zeros(MIXFORMER.heads * width, np.float32)
        fields[: DIM + 3] = row.fields[0]
        parts = fields.reshape(MIXFORMER.heads, width)
        heads = np.einsum("np,npd->nd", parts, layer.head_kernel.numpy())[None]
        heads = gated(layer, row, tf.constant(heads))
        start, there = row.slots(row.projected)
        history = start
        for block, bias in zip(layer.blocks, biases_of(layer, row), strict=True):
            heads, after = block(heads, history, there, bias, row.length, row.vector)
            history = after if chained else start
        np.testing.assert_allclose(found[index], tf.reshape(heads, [-1]), atol=5e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_onetrans_ends_with_the_mean_of_side_tokens_and_the_target_token(causal: bool) -> None:
    layer = randomise(OneTransBackbone(replace(ONETRANS, causal=causal), LENS, LAIN))
    found = layer(INPUTS)
    for index in range(len(LENGTHS)):
        row = Row(layer, index, project=layer.project)
        side = tf.reshape(layer.split(layer.hidden(row.fields)), [1, -1, ONETRANS.dim])
        tokens = tf.concat([side, layer.project_target(row.target)[:, None]], axis=1)
        tokens = gated(layer, row, tokens)
        events, there = row.slots(row.projected)
        for block, bias in zip(layer.blocks, biases_of(layer, row), strict=True):
            tokens, events = block(tokens, events, there, bias, row.length, row.vector)
        *side_tokens, target = tokens[0].numpy()
        expected = np.concatenate([np.mean(side_tokens, axis=0), target])
        np.testing.assert_allclose(found[index], expected, atol=5e-5)
