"""Hashed tables: ids share a fixed number of rows, and no vocabulary is kept.

An id goes to the row ``fingerprint(id) mod buckets`` with FarmHash's fingerprint, which is the same
on every machine and in every version, in training as in serving. Integers are hashed as their
decimal text. Two ids of one row can no more be told apart.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import tensorflow as tf

COLLISIONS_FILE = "hash_collisions.json"

# Ids that are hashed at a time, to measure collisions.
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collisions:
    """What sharing rows costs a feature.

    Attributes:
        ids: distinct ids of the training split.
        buckets: rows they share.
        used: rows that at least one id has.
        expected_share: share of ids that would share a row with another under ideal hashing.
        measured_share: share of ids that do.
    """

    ids: int
    buckets: int
    used: int
    expected_share: float
    measured_share: float


def hash_bucket(values: tf.Tensor, buckets: int) -> tf.Tensor:
    """Returns the bucket of each id, int64 from 0 on; strings or integers of any shape."""
    text = values if values.dtype == tf.string else tf.strings.as_string(values)
    return tf.strings.to_hash_bucket_fast(text, buckets)


def expected_share(ids: int, buckets: int) -> float:
    """Returns the expected share of ids that share a bucket: ``1 - (1 - 1/buckets)^(ids - 1)``."""
    return float(-np.expm1((ids - 1) * np.log1p(-1.0 / buckets))) if ids > 1 else 0.0


def measure_collisions(ids: pa.Array, buckets: int) -> Collisions:
    """Hashes distinct ids and counts which of them share a bucket.

    Args:
        ids: as bytes, each once.
        buckets: at least 2.
    """
    sizes = np.zeros(buckets, np.int64)
    for start in range(0, len(ids), CHUNK):
        chunk = tf.constant(ids.slice(start, CHUNK).to_pylist(), tf.string)
        sizes += np.bincount(hash_bucket(chunk, buckets).numpy(), minlength=buckets)
    shared = int(sizes[sizes > 1].sum())
    return Collisions(
        ids=len(ids),
        buckets=buckets,
        used=int(np.count_nonzero(sizes)),
        expected_share=expected_share(len(ids), buckets),
        measured_share=shared / len(ids) if len(ids) else 0.0,
    )
