"""Transforms a file of raw examples into a file of transformed ones, record by record in order.

With ``data.pack_impressions``, consecutive impressions of a user go into one record. A run of them
ends with the batch that is transformed at a time, which is much longer.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, TypeAlias, cast

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft

from beam_jobs.encode import encode, write_records
from beam_jobs.files import replacing
from components.transform.packing import pack
from schemas import features

BATCH = 1024
READ_BUFFER_BYTES = 1 << 20
PARALLEL_BATCHES = 2

Values: TypeAlias = Mapping[str, tf.Tensor | tf.SparseTensor]
Transform: TypeAlias = Callable[[tf.Tensor], Values]

_progress = logging.getLogger("lengthwise.progress")


class TransformFile(beam.DoFn):
    """Transforms a file; the elements are pairs of a source and a target.

    Args:
        graph: folder of the Transform graph.
        total: number of all files, for the progress.
        pack_impressions: impressions that a record holds at most; 0 for a record an impression.
    """

    def __init__(self, graph: str, *, total: int, pack_impressions: int = 0):
        super().__init__()
        self._graph = graph
        self._total = total
        self._pack_impressions = pack_impressions
        self._transform: Transform | None = None

    def setup(self) -> None:
        self._transform = load_transform(
            self._graph, keep=[features.HISTORY_LENGTH_TOTAL] if self._pack_impressions else []
        )

    def process(self, element: tuple[str, str]) -> None:
        source, target = element
        assert self._transform is not None
        transform_file(source, target, self._transform, pack_impressions=self._pack_impressions)
        _progress.info("transformed", extra={"advance": 1, "total": self._total, "unit": "files"})


def load_transform(graph: str, *, keep: Sequence[str] = ()) -> Transform:
    """Loads a Transform graph as a function of serialized raw examples [rows].

    Args:
        graph: folder of the graph.
        keep: raw features that are returned as they are beside the transformed ones.

    Raises:
        ValueError: one of ``keep`` is not in the schema.
    """
    output = tft.TFTransformOutput(graph)
    spec = output.raw_feature_spec()
    missing = [name for name in keep if name not in spec]
    if missing:
        raise ValueError(
            f"data.pack_impressions: features {missing} are needed, but not in the schema; "
            "pack_impressions 0 is accepted"
        )
    layer = output.transform_features_layer()

    def transform(records: tf.Tensor) -> Values:
        raw = tf.io.parse_example(records, spec)
        kept = {name: raw[name] for name in keep}
        return {**layer(raw), **kept}

    return transform


def transform_file(
    source: str, target: str, transform: Transform, *, pack_impressions: int = 0
) -> None:
    """Writes the transformed examples of a file, each where the raw one stood.

    Args:
        source: TFRecord file of raw examples, compressed if it ends in ``.gz``.
        target: file to write; compressed under the same rule.
        transform: gives the transformed features of serialized examples; and for packing, kept,
            ``history_length_total``.
        pack_impressions: impressions that a record holds at most; 0 for a record an impression.
    """
    compressed = "GZIP" if source.endswith(".gz") else ""
    batches = (
        tf.data.TFRecordDataset(source, compressed, buffer_size=READ_BUFFER_BYTES)
        .batch(BATCH)
        .map(transform, num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
        .prefetch(PARALLEL_BATCHES)
    )
    with replacing(target) as stream, _compressed(target, stream) as file:
        for batch in batches:
            if pack_impressions:
                columns = pack_features(batch, pack_impressions)
            else:
                columns = to_record_batch(batch)
            write_records(encode(columns), file)


def pack_features(values: Values, limit: int) -> pa.RecordBatch:
    """Packs transformed features into columns of lists.

    Args:
        values: of :func:`to_record_batch`, and ``history_length_total``.
        limit: impressions that a record holds at most.
    """
    transformed = dict(values)
    lists = _lists(transformed.pop(features.HISTORY_LENGTH_TOTAL))
    offsets, flat = np.asarray(lists.offsets), np.asarray(lists.flatten())
    totals = np.full(len(lists), features.MISSING_INT)
    is_present = np.diff(offsets) > 0
    totals[is_present] = flat[offsets[:-1][is_present]]
    return pack(to_record_batch(transformed), totals, limit)


def to_record_batch(values: Values) -> pa.RecordBatch:
    """Puts transformed features into columns of lists.

    Args:
        values: dense tensors [rows] or [rows, values], or sparse ones [rows, values] whose
            values stand at the front of their rows.
    """
    return pa.record_batch({name: _lists(part) for name, part in values.items()})


def _lists(values: tf.Tensor | tf.SparseTensor) -> pa.Array:
    if isinstance(values, tf.SparseTensor):
        rows = values.indices.numpy()[:, 0]
        lengths = np.bincount(rows, minlength=int(values.dense_shape[0]))
        flat = values.values.numpy()
    else:
        dense = values.numpy()
        lengths = np.full(len(dense), dense.size // max(len(dense), 1))
        flat = dense.reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))


def _compressed(path: str, stream: BinaryIO) -> BinaryIO:
    if not path.endswith(".gz"):
        return stream
    # No name and no time in it, so that equal examples are equal bytes.
    file = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=stream, mtime=0)
    return cast(BinaryIO, file)
