"""Tests of sums over shared hash buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.layers.bucket_sum import BucketSum
from tests.models.layers import layer_checks
from tests.models.layers.layer_checks import CHECKS, LENGTH, MASK, LayerCase, value

CASES = {
    "plain": LayerCase(
        make=lambda: BucketSum(hashes=3, bits=2, seed=4),
        arguments={"target": (6,), "history": (LENGTH, 6), "event_mask": MASK},
        shapes=[(4, 6)],
        weights=[(6, 6)],
    ),
    "prompts": LayerCase(
        make=lambda: BucketSum(hashes=3, bits=2, seed=4, normalize=True),
        arguments={
            "target": (6,),
            "history": (LENGTH, 6),
            "event_mask": MASK,
            "prompts": (2, 6),
        },
        shapes=[(4, 6)],
        weights=[(6, 6)],
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_layer_contract(name: str, check: Any, tmp_path: Path) -> None:
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_formula(name: str) -> None:
    layer = CASES[name].make()
    arrays = layer_checks.example(CASES[name])
    found = layer_checks.call(layer, arrays)
    planes = value(layer.projection).reshape(6, 3, 2)
    for row in range(4):
        total = np.zeros(6)
        for plane in range(3):
            code = arrays["target"][row] @ planes[:, plane] > 0
            bucket = np.zeros(6)
            for event, real in zip(arrays["history"][row], arrays["event_mask"][row], strict=True):
                if real and ((event @ planes[:, plane] > 0) == code).all():
                    bucket += event
            if name == "prompts":
                bucket += arrays["prompts"][row].sum(axis=0)
                bucket /= np.linalg.norm(bucket)
            total += bucket / 3
        np.testing.assert_allclose(found[row], total, atol=1e-5)


def test_bucket_numbers_worked_out_by_hand() -> None:
    layer = BucketSum(hashes=1, bits=2)
    layer(tf.zeros([1, 2]), tf.zeros([1, 1, 2]), tf.ones([1, 1], tf.bool))
    layer.projection.assign(tf.eye(2))
    vectors = tf.constant([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert np.array(layer.buckets(vectors))[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", CASES)
def test_buckets_summed_once_serve_all_candidates(name: str) -> None:
    layer = CASES[name].make()
    users, rows = layer_checks.with_candidates(CASES[name], ("target",))
    expected = layer_checks.call(layer, rows)
    np.testing.assert_allclose(layer_checks.call(layer, users), expected, atol=1e-5)
    encoded = layer.encode_history(tf.constant(users["history"]), users["event_mask"])
    assert encoded.shape == (2, 3, 4, 6)
    found = layer.look_up(tf.constant(users["target"]), encoded, users.get("prompts"))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_is_in_no_bucket() -> None:
    layer = CASES["plain"].make()
    arrays = layer_checks.example(CASES["plain"], real=(0, 0))
    arrays["history"][:] = arrays["target"][:, None]
    assert (np.array(layer_checks.call(layer, arrays)) == 0).all()
    encoded = layer.encode_history(tf.constant(arrays["history"]), arrays["event_mask"])
    assert (np.array(encoded) == 0).all()


def test_an_export_finds_the_same_buckets(tmp_path: Path) -> None:
    layer = CASES["plain"].make()
    arrays = layer_checks.example(CASES["plain"])
    before = layer_checks.call(layer, arrays)
    assert not layer.trainable_weights
    module = tf.Module()
    module.layer = layer
    module.run = tf.function(
        lambda target, history, event_mask: layer(target, history, event_mask),
        input_signature=[
            tf.TensorSpec([None, 6]),
            tf.TensorSpec([None, None, 6]),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    after = loaded.run(*arrays.values())
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_buckets_under_mixed_precision_are_those_of_the_whole_projection() -> None:
    arrays = layer_checks.example(CASES["plain"], real=(200,) * 16, padded=200)
    arrays = {
        name: array if name == "event_mask" else tf.cast(array, tf.bfloat16)
        for name, array in arrays.items()
    }
    half, whole = (
        layer_checks.call(BucketSum(hashes=4, bits=4, seed=4, dtype=dtype), arrays)
        for dtype in ("mixed_bfloat16", "float32")
    )
    # Another bucket would add or leave out a quarter of an event.
    np.testing.assert_allclose(tf.cast(half, tf.float32), whole, rtol=1e-2, atol=1e-2)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="bits 17: 1 to 16"):
        BucketSum(bits=17)
