"""Tests of hashing ids to rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from models.hashing import expected_share, hash_bucket, measure_collisions


def test_buckets_are_those_of_every_other_version() -> None:
    # FarmHash's fingerprint64 of these texts, by its C++ implementation.
    ids = tf.constant(["abc", "7", ""])
    wanted = [2640714258260161385, 9813730750082856088, 11160318154034397263]
    for buckets in (7, 1_000_003):
        found = hash_bucket(ids, buckets).numpy().tolist()
        assert found == [value % buckets for value in wanted]


def test_integers_hash_as_their_text() -> None:
    numbers = tf.constant([[7, -3], [12345678901234, 0]], tf.int64)
    text = tf.constant([["7", "-3"], ["12345678901234", "0"]])
    np.testing.assert_array_equal(hash_bucket(numbers, 97), hash_bucket(text, 97))


def test_collisions_are_counted_by_ids() -> None:
    ids = [f"id {number}".encode() for number in range(50)]
    buckets = Counter(hash_bucket(tf.constant(ids), 20).numpy().tolist())
    found = measure_collisions(pa.array(ids, pa.large_binary()), 20)
    alone = sum(1 for count in buckets.values() if count == 1)
    assert (found.ids, found.buckets, found.used) == (50, 20, len(buckets))
    assert found.measured_share == pytest.approx((50 - alone) / 50)


def test_expected_share_is_met_by_random_ids() -> None:
    assert expected_share(2, 4) == pytest.approx(1 / 4)
    assert expected_share(3, 4) == pytest.approx(1 - (3 / 4) ** 2)
    assert expected_share(1, 4) == expected_share(0, 4) == 0
    ids = pa.array([str(number).encode() for number in range(20_000)], pa.large_binary())
    found = measure_collisions(ids, 50_000)
    assert found.measured_share == pytest.approx(found.expected_share, rel=0.03)
    assert found.expected_share == pytest.approx(1 - np.exp(-20_000 / 50_000), rel=1e-3)


def test_no_ids_share_nothing() -> None:
    found = measure_collisions(pa.array([], pa.large_binary()), 3)
    assert (found.ids, found.used, found.measured_share, found.expected_share) == (0, 0, 0, 0)
