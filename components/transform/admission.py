"""What a pass over the raw examples says of their ids: vocabularies by admission and expiry, and
which ids of hashed tables share a row.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders import example_coder

from models.files import write_json
from models.hashing import COLLISIONS_FILE, measure_collisions
from models.id_ledger import (
    BEFORE_ALL_TIMES,
    REPORT_FILE,
    Decision,
    count_ids,
    decide,
    last_time,
    merge,
    read_ledger,
    write_ledger,
)
from models.plan import RankerPlan
from models.warm_start_index import LEDGER_FILE
from schemas import features
from schemas.dataset_sections import FieldType

BATCH = 4096
READ_BUFFER_BYTES = 1 << 20

_LOG = logging.getLogger(__name__)


def admit(
    pipeline: beam.Pipeline,
    files: Sequence[str],
    plan: RankerPlan,
    *,
    expiry_days: int | None,
    earlier: str,
    folder: str,
) -> None:
    """Adds the pass to a pipeline.

    Args:
        pipeline: what reads the examples.
        files: raw examples of the training split.
        plan: what the ranker reads.
        expiry_days: days that an id stays known without being seen; None: there is no decision
            on vocabularies.
        earlier: ledger of an earlier run; empty for none.
        folder: gets a file with a line an entry for each vocabulary, the ledger and the report;
            and the collisions, if any table is hashed.
    """
    after = last_time(read_ledger(earlier)) if earlier else BEFORE_ALL_TIMES
    _ = (
        pipeline
        | "Files" >> beam.Create(list(files))
        | "Spread" >> beam.Reshuffle()
        | "Count" >> beam.FlatMap(count_file, plan=plan, after=after)
        | "Merge" >> beam.CombineGlobally(merge)
        | "Write"
        >> beam.Map(write_all, plan=plan, expiry_days=expiry_days, earlier=earlier, folder=folder)
    )


def count_file(file: str, *, plan: RankerPlan, after: int) -> Iterator[pa.Table]:
    """Counts the ids of a file of raw examples, a batch at a time."""
    decoder = example_coder.ExamplesToRecordBatchDecoder(_schema(plan).SerializeToString())
    compression = "GZIP" if file.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(file, compression, buffer_size=READ_BUFFER_BYTES)
    for batch in records.batch(BATCH):
        yield count_ids(decoder.DecodeBatch(batch.numpy()), plan, after=after)


def write_all(
    counted: pa.Table, *, plan: RankerPlan, expiry_days: int | None, earlier: str, folder: str
) -> None:
    """Writes what the counts say."""
    os.makedirs(folder, exist_ok=True)
    if expiry_days is not None:
        write_decision(counted, plan=plan, expiry_days=expiry_days, earlier=earlier, folder=folder)
    write_collisions(counted, plan, folder)


def write_collisions(counted: pa.Table, plan: RankerPlan, folder: str) -> None:
    """Measures which distinct ids of hashed tables share a row, and writes and logs it."""
    report = {}
    for table in plan.tables:
        for name, buckets in plan.hashed(table).items():
            ids = counted.filter(pc.equal(counted.column("vocabulary"), name)).column("id")
            found = measure_collisions(ids.combine_chunks(), buckets)
            report[name] = dataclasses.asdict(found)
            _LOG.info(
                "hashed table %s: %d ids in %d buckets, %.2f %% of them share one (expected "
                "%.2f %%)",
                name,
                found.ids,
                buckets,
                100 * found.measured_share,
                100 * found.expected_share,
            )
    if report:
        write_json(os.path.join(folder, COLLISIONS_FILE), report)


def write_decision(
    counted: pa.Table, *, plan: RankerPlan, expiry_days: int, earlier: str, folder: str
) -> None:
    """Decides, and writes the vocabularies, the ledger and the report."""
    known = [read_ledger(earlier)] if earlier else []
    decision = decide(
        merge([*known, counted]),
        plan.vocabularies,
        min_count=plan.min_count,
        expiry_days=expiry_days,
    )
    for name, entries in decision.vocabularies.items():
        lines = entries.to_pylist() or [_placeholder(name, plan)]
        with open(os.path.join(folder, name), "wb") as file:
            file.writelines(line + b"\n" for line in lines)
    write_ledger(decision.ledger, os.path.join(folder, LEDGER_FILE))
    report = {name: dataclasses.asdict(counts) for name, counts in decision.counts.items()}
    write_json(os.path.join(folder, REPORT_FILE), report)
    _log(decision, expiry_days)


def _log(decision: Decision, expiry_days: int) -> None:
    for name, counts in decision.counts.items():
        _LOG.info(
            "vocabulary %s: %d ids admitted, %d of them new; %d kept; %d expired, not seen for "
            "%d %s; %d wait for admission",
            name,
            counts.admitted,
            counts.new,
            counts.kept,
            counts.expired,
            expiry_days,
            "day" if expiry_days == 1 else "days",
            counts.waiting,
        )


def _placeholder(name: str, plan: RankerPlan) -> bytes:
    """What no example holds: a lookup table cannot be made of an empty file."""
    types = {category.name: category.type for category in (*plan.item_parts, *plan.categories)}
    is_int = types.get(name) is FieldType.INT
    return str(features.MISSING_INT).encode() if is_int else b"no entry"


def _schema(plan: RankerPlan) -> schema_pb2.Schema:
    """Describes only the features that are read."""
    kinds = {FieldType.INT: schema_pb2.INT, FieldType.STRING: schema_pb2.BYTES}
    types = {category.name: category.type for category in plan.categories}
    for part in plan.item_parts:
        types[part.name] = types[features.history_feature(part.name)] = part.type
    types[features.TIMESTAMP] = FieldType.INT
    return schema_pb2.Schema(
        feature=[schema_pb2.Feature(name=name, type=kinds[kind]) for name, kind in types.items()]
    )
