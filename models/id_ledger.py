"""Which ids have an embedding row of their own, from one day's run to the next.

Beside the vocabularies of a run there can be a ledger: how often each id was seen so far, when it
was last seen, and whether it was in the vocabulary. An id is seen by an example that holds it, as
target, in the history or in a field. From the ledger of the model that a training starts from and
the examples of the training split that lie after it follow the vocabularies of the run:

- admission: an id enters once it has been seen ``vocabulary_min_count`` times, over all days that
  the ledger knows of;
- expiry: an id that no example held for more than ``vocabulary_expiry_days`` before the last
  example of the training split leaves, with its counts. If it comes back, it is new.

These are the frequency filter and the expiry of Monolith (arXiv 2209.07663), but on exact counts
and on the time of the log, not of a clock: a run that is repeated decides the same, and no example
of the validation or test split is looked at.

A ledger is a table with the columns ``vocabulary``, ``id``, ``count``, ``last_seen`` (milliseconds
of the epoch) and ``is_entry``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.plan import FIELDS, RankerPlan
from schemas import features

REPORT_FILE = "id_ledger.json"

MILLISECONDS_A_DAY = 86_400_000
BEFORE_ALL_TIMES = -(2**62)

SCHEMA = pa.schema(
    [
        ("vocabulary", pa.string()),
        ("id", pa.large_binary()),
        ("count", pa.int64()),
        ("last_seen", pa.int64()),
        ("is_entry", pa.bool_()),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdCounts:
    """What became of the ids of a vocabulary.

    Attributes:
        admitted: entries of the vocabulary, ``kept`` and ``new`` ones.
        kept: entries that were in the earlier vocabulary.
        new: entries that were not.
        expired: entries of the earlier vocabulary that were not seen for too long.
        waiting: ids that were seen, but not often enough yet; entries of the earlier vocabulary
            among them if ``vocabulary_min_count`` has been raised.
    """

    admitted: int
    kept: int
    new: int
    expired: int
    waiting: int


class Decision(NamedTuple):
    """The vocabularies of a run.

    Attributes:
        ledger: for the next run.
        vocabularies: entries by name, most frequent first and then by value.
        counts: by name, what became of the ids.
    """

    ledger: pa.Table
    vocabularies: dict[str, pa.Array]
    counts: dict[str, IdCounts]


def count_ids(records: pa.RecordBatch, plan: RankerPlan, *, after: int) -> pa.Table:
    """Counts the ids that a batch of raw examples holds.

    Those of a hashed category go under its own name, and are counted in all examples.

    Args:
        records: decoded examples; each column is a list an example.
        plan: what the ranker reads.
        after: examples up to this time are not counted, in milliseconds.
    """
    times, rows = _column(records, features.TIMESTAMP)
    time_of_row = np.full(records.num_rows, BEFORE_ALL_TIMES, np.int64)
    time_of_row[rows] = times.to_numpy(zero_copy_only=False)
    pieces = []
    for vocabulary, ids, rows in _ids(records, plan):
        seen = time_of_row[rows]
        if vocabulary not in plan.vocabularies:
            pieces.append(_table(vocabulary, ids, seen))
            continue
        # A vocabulary is a text file with a line an entry.
        usable = pc.and_(pc.invert(_holds(ids, b"\n")), pc.invert(_holds(ids, b"\r")))
        kept = pc.and_(usable, pa.array(seen > after))
        pieces.append(_table(vocabulary, ids, seen).filter(kept))
    return merge(pieces)


def merge(tables: Iterable[pa.Table]) -> pa.Table:
    """Adds up ledgers; the order does not matter."""
    joined = pa.concat_tables([SCHEMA.empty_table(), *tables])
    grouped = joined.group_by(["vocabulary", "id"]).aggregate(
        [("count", "sum"), ("last_seen", "max"), ("is_entry", "max")]
    )
    columns = [grouped.column(name) for name in ("vocabulary", "id")]
    columns += [grouped.column(name) for name in ("count_sum", "last_seen_max", "is_entry_max")]
    return pa.table(columns, schema=SCHEMA)


def last_time(ledger: pa.Table) -> int:
    """Returns the time of the last example that was counted, in milliseconds."""
    found = pc.max(ledger.column("last_seen")).as_py()
    return BEFORE_ALL_TIMES if found is None else int(found)


def decide(ledger: pa.Table, names: Iterable[str], *, min_count: int, expiry_days: int) -> Decision:
    """Admits ids and lets them expire.

    Args:
        ledger: the earlier one with the new counts merged in.
        names: the vocabularies of the run; ids of others are forgotten.
        min_count: times an id must have been seen.
        expiry_days: an id that was last seen longer ago is forgotten.
    """
    oldest = last_time(ledger) - expiry_days * MILLISECONDS_A_DAY
    vocabularies, counts, kept = {}, {}, []
    for name in names:
        ids = ledger.filter(pc.equal(ledger.column("vocabulary"), name))
        is_alive = pc.greater_equal(ids.column("last_seen"), oldest)
        alive, gone = ids.filter(is_alive), ids.filter(pc.invert(is_alive))
        is_admitted = pc.greater_equal(alive.column("count"), min_count)
        entries = alive.filter(is_admitted).sort_by([("count", "descending"), ("id", "ascending")])
        before = pc.sum(entries.column("is_entry")).as_py() or 0
        vocabularies[name] = entries.column("id").combine_chunks()
        counts[name] = IdCounts(
            admitted=len(entries),
            kept=before,
            new=len(entries) - before,
            expired=pc.sum(gone.column("is_entry")).as_py() or 0,
            waiting=len(alive) - len(entries),
        )
        kept.append(alive.set_column(4, SCHEMA.field(4), is_admitted))
    ordered = pa.concat_tables([SCHEMA.empty_table(), *kept])
    ordered = ordered.sort_by([("vocabulary", "ascending"), ("id", "ascending")])
    return Decision(ordered, vocabularies, counts)


def write_ledger(ledger: pa.Table, path: str) -> None:
    """Writes a ledger under a temporary name and renames it."""
    temporary = f"{path}.tmp"
    pq.write_table(ledger, temporary, compression="zstd")
    os.replace(temporary, path)


def read_ledger(path: str) -> pa.Table:
    """Reads a ledger."""
    return pq.read_table(path, schema=SCHEMA)


def _ids(records: pa.RecordBatch, plan: RankerPlan) -> Iterator[tuple[str, pa.Array, np.ndarray]]:
    """Yields the name of a vocabulary, ids of it, and the example that holds each."""
    for part in plan.item_parts:
        for name in (part.name, features.history_feature(part.name)):
            values, rows = _column(records, name, first_only=name == part.name)
            yield part.name, *_present(values, rows)
    for category in plan.categories:
        values, rows = _present(*_column(records, category.name, first_only=True))
        if category.buckets is not None or category.has_own_table:
            yield category.name, values, rows
            continue
        prefix = pa.scalar(f"{category.name}=".encode(), pa.large_binary())
        empty = pa.scalar(b"", pa.large_binary())
        yield FIELDS, pc.binary_join_element_wise(prefix, values, empty), rows


def _column(
    records: pa.RecordBatch, name: str, *, first_only: bool = False
) -> tuple[pa.Array, np.ndarray]:
    """Returns the values of a feature and the example that holds each."""
    column = records.column(name) if name in records.schema.names else None
    if column is None or column.null_count == len(column):
        return pa.array([], pa.int64()), np.zeros(0, np.int64)
    values = column.flatten()
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    if first_only and len(rows):
        is_first = np.append(True, rows[1:] != rows[:-1])
        values, rows = values.filter(pa.array(is_first)), rows[is_first]
    return values, rows


def _present(values: pa.Array, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """Leaves missing values out; the others become bytes, integers in decimal."""
    if pa.types.is_integer(values.type):
        is_present = pc.not_equal(values, features.MISSING_INT)
        values = values.cast(pa.large_string())
    else:
        is_present = pc.greater(pc.binary_length(values), 0)
    kept = values.filter(is_present).cast(pa.large_binary())
    return kept, rows[is_present.to_numpy(zero_copy_only=False)]


def _holds(ids: pa.Array, byte: bytes) -> pa.Array:
    return pc.match_substring(ids, byte)


def _table(vocabulary: str, ids: pa.Array, seen: np.ndarray) -> pa.Table:
    count = len(ids)
    columns = [
        pa.repeat(pa.scalar(vocabulary), count),
        ids,
        pa.array(np.ones(count, np.int64)),
        pa.array(seen, pa.int64()),
        pa.repeat(pa.scalar(False), count),
    ]
    return pa.table(columns, schema=SCHEMA)
