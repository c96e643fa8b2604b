"""Transformed rows of users whose impressions see windows of one life, packed and one by one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.encode import encode, write_records
from components.transform.packing import pack
from models.plan import FIELDS, FIRST_INDEX, NUMBERS, USER_GROUP
from schemas import features
from tests.models.tiny_training import ENTRIES, MAX_LENGTH, PLAN


@dataclass(frozen=True)
class PackedRows:
    """Rows of several users, in order of user and time.

    Attributes:
        batch: a row an impression, in columns of lists.
        totals: events that were known before each impression.
    """

    batch: pa.RecordBatch
    totals: np.ndarray

    def packed(self, limit: int) -> pa.RecordBatch:
        """A row a run of impressions."""
        return pack(self.batch, self.totals, limit)


def make_rows(users: int, seed: int = 0) -> PackedRows:
    """Makes rows; numbers count the rows."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    totals: list[int] = []
    for user in range(users):
        life = {name: random.integers(0, ENTRIES + FIRST_INDEX, 60) for name in PLAN.history_lists}
        life[features.HISTORY_ACTION] = random.integers(1, 3, 60)
        end = int(random.integers(0, 12))
        for _ in range(int(random.integers(1, 10))):
            window = slice(max(0, end - MAX_LENGTH), end)
            row: dict[str, Any] = {name: values[window] for name, values in life.items()}
            for name, width in (
                (FIELDS, len(PLAN.categories)),
                *((p.name, 1) for p in PLAN.item_parts),
            ):
                row[name] = random.integers(0, ENTRIES + FIRST_INDEX, width)
            row[NUMBERS] = np.array([len(rows)], np.float32)
            row[features.LABEL] = np.array([random.random() < 0.3], np.float32)
            row[USER_GROUP] = np.array([user])
            rows.append(row)
            totals.append(end)
            end += int(random.integers(0, 3))
    return PackedRows(to_batch(rows), np.array(totals))


def to_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Puts rows of arrays into columns of lists."""
    return pa.record_batch({name: to_lists([row[name] for row in rows]) for name in rows[0]})


def to_lists(values: list[np.ndarray]) -> pa.LargeListArray:
    """Puts arrays into one column of lists."""
    offsets = np.cumsum([0, *map(len, values)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(values)))


def write(path: Path, batch: pa.RecordBatch) -> str:
    """Writes examples."""
    with path.open("wb") as file:
        write_records(encode(batch), file)
    return str(path)
