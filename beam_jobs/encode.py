"""Examples of one shard: windows, joined fields and encoding, a chunk of rows at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from beam_jobs.columns import fill_missing, hashes, mix, ordinals, single
from beam_jobs.config import DataConfig
from beam_jobs.events import ORIGIN, Bounds, Origin, kept_by_protocol, moments
from beam_jobs.histories import chunks, history_windows, order_of_runs, window_indices
from beam_jobs.side import look_up
from schemas import features
from schemas.dataset import DatasetDescription

_CRC_MASK = 0xA282EAD8


def shard_batches(
    events: pa.Table,
    known: pa.Table,
    users: pa.Table,
    items: pa.Table,
    item_counts: pa.Table,
    bounds: Bounds,
    description: DatasetDescription,
    config: DataConfig,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Builds the examples of a shard.

    Args:
        events: sorted events of the shard.
        known: ``user`` and ``known``: events older than those in ``events``.
        users: user fields by ``KEY``.
        items: item fields by ``KEY``.
        item_counts: ``item`` and ``samples`` of the training split.
        bounds: the cuts in time.
        description: the dataset.
        config: history and bucket edges.

    Yields:
        The name of a split and a batch of its examples in contract columns, each a list.
        Within a split the rows are in an order that is random but always the same, so that a
        trainer needs only a small shuffle buffer. Where impressions are to be packed, it is the
        order of runs of rows, each of a user's consecutive impressions.
    """
    user_column = single(events.column("user"))
    item_column = single(events.column("item"))
    time = np.asarray(events.column("time"))
    origin = np.asarray(events.column(ORIGIN))
    kept = (origin != Origin.NEGATIVE) & kept_by_protocol(
        np.asarray(events.column("label")),
        np.asarray(events.column("action")),
        config.history.protocol,
        description,
    )
    known_index = pc.index_in(user_column, value_set=single(known.column("user")))
    known_before = single(known.column("known")).take(known_index)
    known_before = np.asarray(pc.fill_null(known_before, 0))
    history = _history_columns(
        events.filter(pa.array(kept)).select(["item", "action"]), items, description
    )
    split = np.where(origin == Origin.HISTORY, -1, bounds.split_of(time))
    order_key = mix(hashes(user_column), hashes(item_column), time, origin)
    codes = ordinals(user_column)
    moment = moments(time, config.history.freshness, description)

    for number, name in enumerate(features.SPLITS):
        rows = np.flatnonzero(split == number)
        rows = rows[order_of_runs(codes[rows], order_key[rows], _run_length(name, config))]
        windows = history_windows(
            codes, moment, kept, rows, config.history.max_length, known_before
        )
        for chunk in chunks(windows.length):
            target = events.take(pa.array(rows[chunk]))
            length = windows.length[chunk]
            offsets, indices = window_indices(windows.start[chunk], length)
            columns = _target_columns(target, users, items, item_counts, description, config)
            columns[features.HISTORY_LENGTH] = _scalars(pa.array(length))
            columns[features.HISTORY_LENGTH_TOTAL] = _scalars(pa.array(windows.total[chunk]))
            columns[features.LENGTH_BUCKET] = _scalars(_buckets(length, config.length_edges))
            for feature, values in history.items():
                taken = values.take(pa.array(indices))
                columns[feature] = pa.LargeListArray.from_arrays(pa.array(offsets), taken)
            yield name, pa.record_batch(columns)


def _run_length(split: str, config: DataConfig) -> int:
    """Rows of a user that stand together; the test split is never packed."""
    return 1 if split == features.TEST_SPLIT else max(config.pack_impressions, 1)


def encode(batch: pa.RecordBatch) -> list[bytes]:
    """Serialises a batch of examples as ``tf.train.Example`` messages.

    One feature at a time, since the encoder writes the features of one message in random order
    and equal examples must be equal bytes. Messages laid end to end parse as one.
    """
    encoder = RecordBatchToExamplesEncoder()
    parts = [encoder.encode(batch.select([name])) for name in sorted(batch.schema.names)]
    return [b"".join(features_of_row) for features_of_row in zip(*parts, strict=True)]


def write_records(records: list[bytes], stream: BinaryIO) -> None:
    """Writes records in TFRecord framing: length, masked CRC, data, masked CRC."""
    parts = []
    for record in records:
        header = struct.pack("<Q", len(record))
        parts += [header, _masked_crc(header), record, _masked_crc(record)]
    stream.write(b"".join(parts))


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF)


def _history_columns(
    kept: pa.Table, items: pa.Table, description: DatasetDescription
) -> dict[str, pa.Array]:
    item = single(kept.column("item"))
    columns = {
        features.HISTORY_ITEM_ID: _binary(item),
        features.HISTORY_ACTION: single(kept.column("action")).cast(pa.int64()),
    }
    carried = tuple(f for f in description.item_fields if f.name in description.history_fields)
    for name, values in look_up(items, item, carried).items():
        columns[features.history_feature(name)] = _binary(values)
    return columns


def _target_columns(
    target: pa.Table,
    users: pa.Table,
    items: pa.Table,
    item_counts: pa.Table,
    description: DatasetDescription,
    config: DataConfig,
) -> dict[str, pa.Array]:
    user, item = single(target.column("user")), single(target.column("item"))
    index = pc.index_in(item, value_set=single(item_counts.column("item")))
    samples = np.asarray(pc.fill_null(single(item_counts.column("samples")).take(index), 0))
    columns = {
        features.LABEL: single(target.column("label")).cast(pa.int64()),
        features.USER_ID: user,
        features.ITEM_ID: item,
        features.TIMESTAMP: single(target.column("time")),
        features.ITEM_TRAIN_COUNT: pa.array(samples),
        features.DENSITY_BUCKET: _buckets(samples, config.density_edges),
    }
    for context in description.context:
        columns[context.name] = fill_missing(single(target.column(context.name)), context.type)
    columns |= look_up(users, user, description.user_fields)
    columns |= look_up(items, item, description.item_fields)
    return {name: _scalars(values) for name, values in columns.items()}


def _buckets(values: np.ndarray, edges: tuple[int, ...]) -> pa.Array:
    names = pa.array([name.encode() for name in features.bucket_names(edges)], pa.binary())
    return names.take(pa.array(np.searchsorted(edges, values, side="right")))


def _binary(values: pa.Array) -> pa.Array:
    return values.cast(pa.binary()) if pa.types.is_string(values.type) else values


def _scalars(values: pa.Array) -> pa.Array:
    """Wraps each value in a list of one; a null becomes an empty list."""
    values = _binary(values)
    present = np.asarray(values.is_valid())
    offsets = np.concatenate([[0], np.cumsum(present)])
    if values.null_count:
        values = values.drop_null()
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)
