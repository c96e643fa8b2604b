"""Tests of hash retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.simhash import SimHash
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

CASE = LayerCase(
    make=lambda: SimHash(count=3, bits=16, seed=4),
    arguments={"target": (6,), "history": (LENGTH, 6), "event_mask": MASK},
    shapes=[(4, 3, 6), (4, 3), (4, 3)],
    weights=[(6, 16)],
    invariant=lambda found: [
        tf.where(found.event_mask[..., None], found.events, 0.0),
        found.event_mask,
    ],
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_layer_contract(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


def test_the_nearest_codes_are_found() -> None:
    layer = CASE.make()
    arrays = layer_checks.example(CASE, real=(7, 5, 2))
    found = layer_checks.call(layer, arrays)
    plane = value(layer.projection)
    for row, count in enumerate((7, 5, 2)):
        code = arrays["target"][row] @ plane > 0
        codes = arrays["history"][row] @ plane > 0
        distances = {at: int((codes[at] != code).sum()) for at in range(7 - count, 7)}
        best = sorted(distances, key=lambda at: (distances[at], -at))[:3]
        kept = np.array(found.event_mask[row])
        assert kept.sum() == min(count, 3)
        assert np.array(found.positions[row])[kept].tolist() == best
        np.testing.assert_array_equal(
            np.array(found.events[row])[kept], arrays["history"][row][best]
        )


def test_distances_are_hamming_distances_worked_out_by_hand() -> None:
    layer = SimHash(bits=2)
    layer(tf.zeros([1, 2]), tf.zeros([1, 1, 2]), tf.ones([1, 1], tf.bool))
    layer.projection.assign(tf.eye(2))
    history = tf.constant([[[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]]])
    distances = layer.distances(tf.constant([[2.0, 3.0]]), layer.encode_history(history))
    assert np.array(distances).tolist() == [[[0.0, 1.0, 2.0]]]


@pytest.mark.parametrize("seed", range(3))
def test_padding_is_never_retrieved(seed: int) -> None:
    arrays = layer_checks.example(CASE, real=(0, 1, 2, 3, 7), seed=seed)
    # Padding that is the target itself would be nearest of all.
    arrays["history"] = np.where(
        arrays["event_mask"][..., None], arrays["history"], arrays["target"][:, None]
    )
    found = layer_checks.call(CASE.make(), arrays)
    assert np.array(found.event_mask).sum(axis=1).tolist() == [0, 1, 2, 3, 3]
    picked = np.take_along_axis(arrays["event_mask"], np.array(found.positions), axis=1)
    assert picked[np.array(found.event_mask)].all()


def test_the_projection_depends_on_the_seed_alone_and_is_not_trained() -> None:
    planes = []
    for seed in (4, 4, 5):
        layer = SimHash(bits=16, seed=seed)
        layer(tf.zeros([1, 6]), tf.zeros([1, 1, 6]), tf.ones([1, 1], tf.bool))
        assert not layer.trainable_weights
        planes.append(value(layer.projection))
    np.testing.assert_array_equal(planes[0], planes[1])
    assert (planes[0] != planes[2]).any()
    # The same under both versions of Keras.
    by_numpy = np.random.default_rng(4).standard_normal((6, 16)).astype(np.float32)
    np.testing.assert_array_equal(planes[0], by_numpy)


def test_an_export_retrieves_the_same_events(tmp_path: Path) -> None:
    layer = CASE.make()
    arrays = layer_checks.example(CASE)
    before = layer_checks.call(layer, arrays)
    module = tf.Module()
    module.layer = layer
    module.run = tf.function(
        lambda target, history, event_mask: layer(target, history, event_mask).positions,
        input_signature=[
            tf.TensorSpec([None, 6]),
            tf.TensorSpec([None, None, 6]),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    after = loaded.run(*arrays.values())
    np.testing.assert_array_equal(after, before.positions)


def test_codes_computed_once_serve_all_candidates() -> None:
    layer = layer_checks.randomise_after_build(CASE)
    users, rows = layer_checks.with_candidates(CASE, ("target",))
    codes = layer.encode_history(tf.constant(users["history"]))
    together = layer_checks.call(layer, {**users, "codes": codes})
    alone = layer_checks.call(layer, rows)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_codes_under_mixed_precision_are_those_of_the_whole_projection() -> None:
    arrays = layer_checks.example(CASE, real=(7,) * 64)
    layer = SimHash(count=3, bits=32, seed=4, dtype="mixed_bfloat16")
    layer(tf.constant(arrays["target"]), arrays["history"], arrays["event_mask"])
    target, history = (tf.cast(arrays[name], layer.compute_dtype) for name in ("target", "history"))
    plain = SimHash(count=3, bits=32, seed=4)
    expected = plain(
        *(tf.cast(part, tf.float32) for part in (target, history)), arrays["event_mask"]
    )
    codes = layer.encode_history(history)
    for given in (None, codes):
        found = layer(target, history, arrays["event_mask"], given)
        np.testing.assert_array_equal(found.positions, expected.positions)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="bits 0: at least 1"):
        SimHash(bits=0)
