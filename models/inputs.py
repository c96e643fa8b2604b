"""Batches for the trainer, from the transformed examples that Transform writes.

Histories stay ragged: nothing is padded before the model knows which rows run together.

The order of the rows follows from the names of the files, their contents and a seed. Transform
writes the same names and contents for the same raw log, so a seed repeats a run from there on.

A position in the data is a number of rows. A training that goes on reads and shuffles the rows
before it again without parsing them, which takes seconds a million; the state of a tf.data
iterator would hold the whole shuffle buffer, hundreds of megabytes in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from models.plan import FIELDS, NUMBERS, USER_GROUP, RankerPlan
from schemas import features

Batch: TypeAlias = dict[str, tf.Tensor | tf.RaggedTensor]

# Files read at a time; the order of records is the same on every machine.
OPEN_FILES = 8
BLOCK = 16
READ_BUFFER_BYTES = 1 << 20


def transformed_spec(plan: RankerPlan) -> dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]:
    """Returns how a transformed example is parsed."""
    spec: dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature] = {
        part.name: tf.io.FixedLenFeature([], tf.int64) for part in plan.item_parts
    }
    if plan.categories:
        spec[FIELDS] = tf.io.FixedLenFeature([len(plan.categories)], tf.int64)
    if plan.numbers:
        spec[NUMBERS] = tf.io.FixedLenFeature([len(plan.numbers)], tf.float32)
    for name in plan.history_lists:
        spec[name] = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    spec[features.LABEL] = tf.io.FixedLenFeature([], tf.float32)
    spec[USER_GROUP] = tf.io.FixedLenFeature([], tf.int64, default_value=0)
    return spec


def list_files(patterns: Sequence[str], *, split: str) -> list[str]:
    """Returns the files that match, sorted.

    Raises:
        ValueError: there are none.
    """
    files = sorted({file for pattern in patterns for file in tf.io.gfile.glob(pattern)})
    if not files:
        raise ValueError(f"{split} split: no example files match {list(patterns)}")
    return files


def make_dataset(
    files: Sequence[str],
    plan: RankerPlan,
    *,
    batch_size: int,
    shuffle_seed: int | None = None,
    shuffle_buffer: int = 100_000,
    shares: int = 1,
    share: range = range(1),
    skip: int = 0,
) -> tf.data.Dataset:
    """Reads transformed examples in batches; the last one may be smaller.

    Args:
        files: TFRecord files, compressed if they end in ``.gz``.
        plan: what the ranker reads.
        batch_size: rows of a batch over all devices.
        shuffle_seed: shuffles files and rows by this seed; not given: keeps their order.
        shuffle_buffer: rows that are shuffled at a time.
        shares: devices that share each batch, the rows in turn: together they read the batches
            that one device would read.
        share: which of them read here; each batch gives one after the other of its shares, some
            of which may be empty in the last.
        skip: rows that are left out at the beginning, in shuffled order and over all devices.

    Returns:
        Dictionaries of dense [rows, ...] and ragged [rows, None] tensors by feature name.
    """
    parse = make_parser(plan)
    paths = tf.data.Dataset.from_tensor_slices(list(files))
    if shuffle_seed is not None:
        paths = paths.shuffle(len(files), seed=shuffle_seed)
    records = paths.interleave(
        _read, cycle_length=OPEN_FILES, block_length=BLOCK, num_parallel_calls=2, deterministic=True
    )
    if shuffle_seed is not None:
        records = records.shuffle(shuffle_buffer, seed=shuffle_seed)
    if skip:
        records = records.skip(skip)
    batches = records.batch(batch_size)
    if shares > 1:
        indices = tf.constant(list(share), tf.int64)
        batches = batches.flat_map(
            lambda rows: tf.data.Dataset.from_tensor_slices(indices).map(
                lambda index: rows[index::shares]
            )
        )
    return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )


def count_records(files: Sequence[str]) -> int:
    """Counts the records of TFRecord files by reading them."""
    records = tf.data.Dataset.from_tensor_slices(list(files)).flat_map(_read)
    return int(records.reduce(np.int64(0), lambda count, _: count + 1))


def make_parser(plan: RankerPlan) -> Callable[[tf.Tensor], Batch]:
    """Returns what parses serialized transformed examples [rows].

    It raises ``tf.errors.InvalidArgumentError`` for one that is none, or whose history lists
    are of different lengths: the events would be joined with the fields of others.
    """
    spec = transformed_spec(plan)
    first, *others = plan.history_lists

    def parse(records: tf.Tensor) -> Batch:
        batch = tf.io.parse_example(records, spec)
        lengths = batch[first].row_lengths()
        checks = [
            tf.debugging.assert_equal(
                batch[name].row_lengths(),
                lengths,
                message=f"{name} and {first} are lists of different lengths",
            )
            for name in others
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            batch[features.LABEL] = tf.identity(batch[features.LABEL])
        return batch

    return parse


def _read(path: tf.Tensor) -> tf.data.Dataset:
    is_gzip = tf.strings.regex_full_match(path, r".*\.gz")
    return tf.data.TFRecordDataset(
        path,
        compression_type=tf.where(is_gzip, "GZIP", ""),
        buffer_size=READ_BUFFER_BYTES,
    )
