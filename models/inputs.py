"""Batches for the trainer, from the transformed examples that Transform writes.

Histories stay ragged: nothing is padded before the model knows which rows run together.

The order of the rows follows from the names of the files, their contents and a seed. Transform
writes the same names and contents for the same raw log, so a seed repeats a run from there on.

A position in the data is a number of batches. A training that goes on reads and shuffles the
records before it again without parsing them, which takes seconds a million; the state of a tf.data
iterator would hold the whole shuffle buffer, hundreds of megabytes in every checkpoint.

A record of packed examples (``data.pack_impressions``) is a row for each of its impressions, and a
batch holds whole records: as many as have the wanted rows on average.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from models.plan import FIELDS, NUMBERS, USER_GROUP, WINDOW_END, WINDOW_START, RankerPlan
from schemas import features

Batch: TypeAlias = dict[str, tf.Tensor | tf.RaggedTensor]

logger = logging.getLogger(__name__)

# Files read at a time; the order of records is the same on every machine.
OPEN_FILES = 8
BLOCK = 16
READ_BUFFER_BYTES = 1 << 20
# Packed records, of all files together, that the impressions of one are averaged over.
COUNTED_RECORDS = 4096


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
    skip_batches: int = 0,
) -> tf.data.Dataset:
    """Reads transformed examples in batches; the last one may be smaller.

    Args:
        files: TFRecord files, compressed if they end in ``.gz``.
        plan: what the ranker reads.
        batch_size: rows of a batch over all devices; of packed examples on average.
        shuffle_seed: shuffles files and records by this seed; not given: keeps their order.
        shuffle_buffer: rows that are shuffled at a time; of packed examples on average.
        shares: devices that share each batch, the records in turn: together they read the batches
            that one device would read.
        share: which of them read here; each batch gives one after the other of its shares, some
            of which may be empty in the last.
        skip_batches: batches that are left out at the beginning, in shuffled order.

    Returns:
        Dictionaries of dense [rows, ...] and ragged [rows, None] tensors by feature name; of packed
        examples see :mod:`models.packing`.
    """
    parse = make_parser(plan)
    if plan.packed:
        batch_size = records_per_batch(files, batch_size)
        shuffle_buffer = records_per_batch(files, shuffle_buffer)
    paths = tf.data.Dataset.from_tensor_slices(list(files))
    if shuffle_seed is not None:
        paths = paths.shuffle(len(files), seed=shuffle_seed)
    records = paths.interleave(
        _read, cycle_length=OPEN_FILES, block_length=BLOCK, num_parallel_calls=2, deterministic=True
    )
    if shuffle_seed is not None:
        records = records.shuffle(shuffle_buffer, seed=shuffle_seed)
    if skip_batches:
        records = records.skip(skip_batches * batch_size)
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


def records_per_batch(files: Sequence[str], rows: int) -> int:
    """Returns how many packed records have so many rows on average, at least one."""
    return max(1, round(rows / rows_per_record(files)))


def rows_per_record(files: Sequence[str]) -> float:
    """Returns the mean number of impressions in the first records of packed files.

    What cannot be read is left out: whoever reads all of the files says what is wrong with it.
    """
    spec = {WINDOW_END: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)}
    each = -(-COUNTED_RECORDS // len(files))
    records = rows = 0
    for path in files:
        try:
            for batch in _read(tf.constant(path)).take(each).batch(each):
                ends = tf.io.parse_example(batch, spec)[WINDOW_END]
                records += int(ends.nrows())
                rows += int(tf.size(ends.values))
        except tf.errors.OpError as error:
            logger.warning("%s: impressions are not counted (%s)", path, error.message)
    return max(rows / records, 1.0) if records else 1.0


def make_parser(plan: RankerPlan) -> Callable[[tf.Tensor], Batch]:
    """Returns what parses serialized transformed examples [records].

    It raises ``tf.errors.InvalidArgumentError`` for one that is none, or whose history lists
    are of different lengths: the events would be joined with the fields of others. The same goes
    for a packed example with a window that lies outside of its events, or with another number of
    windows than of targets, fields or labels.
    """
    spec = packed_spec(plan) if plan.packed else transformed_spec(plan)
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
        if plan.packed:
            checks += _check_windows(batch, lengths, plan)
        with tf.control_dependencies([check for check in checks if check is not None]):
            batch[features.LABEL] = tf.identity(batch[features.LABEL])
            return _by_row(batch, plan) if plan.packed else batch

    return parse


def packed_spec(plan: RankerPlan) -> dict[str, tf.io.FixedLenFeature | tf.io.RaggedFeature]:
    """Returns how a packed transformed example is parsed."""
    spec = transformed_spec(plan)
    once = {*plan.history_lists, USER_GROUP}
    lists = {
        name: tf.io.RaggedFeature(form.dtype, row_splits_dtype=tf.int64)
        for name, form in spec.items()
        if name not in once
    }
    for name in (WINDOW_START, WINDOW_END):
        lists[name] = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    return {**spec, **lists}


def _check_windows(batch: Batch, lengths: tf.Tensor, plan: RankerPlan) -> list[tf.Operation | None]:
    """Checks the lists of packed examples against each other."""
    start, end = batch[WINDOW_START], batch[WINDOW_END]
    windows = end.row_lengths()
    checks = [tf.debugging.assert_positive(windows, message=f"{WINDOW_END} is empty")]
    for name, form in packed_spec(plan).items():
        if isinstance(form, tf.io.RaggedFeature) and name not in plan.history_lists:
            checks.append(
                tf.debugging.assert_equal(
                    batch[name].row_lengths(),
                    windows * _width(name, plan),
                    message=f"{name} does not have as many values as {WINDOW_END}",
                )
            )
    message = (
        f"{WINDOW_START} and {WINDOW_END} lie outside of the events of {plan.history_lists[0]}"
    )
    last = tf.gather(lengths, end.value_rowids())
    return [
        *checks,
        tf.debugging.assert_non_negative(start.flat_values, message),
        tf.debugging.assert_less_equal(start.flat_values, end.flat_values, message),
        tf.debugging.assert_less_equal(end.flat_values, last, message),
        tf.debugging.assert_less_equal(
            end.flat_values - start.flat_values,
            tf.constant(plan.max_length, tf.int64),
            f"a window has more events than max_length {plan.max_length}",
        ),
    ]


def _by_row(batch: Batch, plan: RankerPlan) -> Batch:
    """Gives what is not of the history a row an impression."""
    rows = dict(batch)
    record = batch[WINDOW_END].value_rowids()
    rows[USER_GROUP] = tf.gather(batch[USER_GROUP], record)
    for name, form in transformed_spec(plan).items():
        if name not in (*plan.history_lists, USER_GROUP):
            rows[name] = tf.reshape(batch[name].flat_values, [-1, *form.shape])
    return rows


def _width(name: str, plan: RankerPlan) -> int:
    """Values that an impression has of a feature."""
    return {FIELDS: len(plan.categories), NUMBERS: len(plan.numbers)}.get(name, 1)


def _read(path: tf.Tensor) -> tf.data.Dataset:
    is_gzip = tf.strings.regex_full_match(path, r".*\.gz")
    return tf.data.TFRecordDataset(
        path,
        compression_type=tf.where(is_gzip, "GZIP", ""),
        buffer_size=READ_BUFFER_BYTES,
    )
