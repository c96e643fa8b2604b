"""The CombineFns of the examples job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from beam_jobs import snapshot as snapshots
from beam_jobs.columns import concat, from_ipc, to_ipc
from schemas.dataset import DatasetDescription


class MergeItemCounts(beam.CombineFn):
    """Adds up counts by item; the result is sorted by item."""

    def __init__(self, description: DatasetDescription):
        self._empty = snapshots.item_schema(description).empty_table()

    def create_accumulator(self) -> bytes:
        return to_ipc(self._empty)

    def add_input(self, accumulator: bytes, counts: bytes) -> bytes:
        return self.merge_accumulators([accumulator, counts])

    def merge_accumulators(self, accumulators: Iterable[bytes]) -> bytes:
        table = concat(list(accumulators)).group_by("item")
        merged = table.aggregate([("samples", "sum"), ("positives", "sum")])
        merged = merged.rename_columns({"samples_sum": "samples", "positives_sum": "positives"})
        merged = merged.select(self._empty.column_names).cast(self._empty.schema)
        return to_ipc(merged.combine_chunks())

    def extract_output(self, accumulator: bytes) -> bytes:
        return to_ipc(from_ipc(accumulator).sort_by("item").combine_chunks())


class SumCounters(beam.CombineFn):
    """Adds up counters."""

    def create_accumulator(self) -> Counter[Any]:
        return Counter()

    def add_input(self, accumulator: Counter[Any], counts: Counter[Any]) -> Counter[Any]:
        accumulator.update(counts)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counter[Any]]) -> Counter[Any]:
        merged: Counter[Any] = Counter()
        for accumulator in accumulators:
            merged.update(accumulator)
        return merged

    def extract_output(self, accumulator: Counter[Any]) -> Counter[Any]:
        return Counter({key: number for key, number in accumulator.items() if number})
