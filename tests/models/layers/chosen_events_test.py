"""Tests of attention to chosen events."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.layers.chosen_events import (
    merge_heads,
    put_prompts_first,
    read_chosen,
    score_chosen,
    split_heads,
)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_heads_are_parts_of_the_width_and_come_back_in_order() -> None:
    tensor = normal(2, 5, 6)
    heads = split_heads(tf.constant(tensor), 3)
    np.testing.assert_array_equal(heads[1, 2], tensor[1, :, 4:])
    np.testing.assert_array_equal(merge_heads(heads), tensor.reshape(10, 6))


def test_each_candidate_and_head_reads_positions_of_its_own() -> None:
    query, keys, weights = normal(2, 3, 4, 5), normal(2, 3, 7, 5), normal(2, 3, 4, 2)
    positions = np.random.default_rng(0).integers(7, size=(2, 3, 4, 2)).astype(np.int32)
    scores = np.array(score_chosen(*(tf.constant(part) for part in (query, keys, positions))))
    read = np.array(read_chosen(*(tf.constant(part) for part in (weights, keys, positions))))
    for place in np.ndindex(2, 3, 4):
        chosen = keys[place[:2]][positions[place]]  # [count, head_dim]
        np.testing.assert_allclose(scores[place], chosen @ query[place], atol=1e-5)
        np.testing.assert_allclose(read[place], weights[place] @ chosen, atol=1e-5)


def test_prompts_stand_first_and_are_always_there() -> None:
    positions, real = tf.constant([[4, 0]]), tf.constant([[True, False]])
    shifted, there = put_prompts_first(positions, real, 2)
    assert np.array(shifted).tolist() == [[0, 1, 6, 2]]
    assert np.array(there).tolist() == [[True, True, True, False]]
    assert put_prompts_first(positions, real, 0) == (positions, real)
