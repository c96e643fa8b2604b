"""Packed against unpacked training on the long workload, 20 impressions a user.

    python -m benchmarks.packing [--only hyformer+lens din twin] [--batches 8] [--impressions 20]
        [--json FILE]

Each user has a history of the workload's length; every impression becomes an event, so that the
next one sees one event more, of at most 1,000. A packed batch holds whole users; the batches it is
compared with hold the same impressions one by one, in random order as training reads them. Bytes
are those of transformed examples in TFRecords. Both sides take turns with one ranker; printed are
medians of examples/s, in wall time and in processor time, which other work on the machine disturbs
less. The loss of a packed batch is compared with that of the same impressions one by one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import tensorflow as tf

from beam_jobs.encode import encode
from benchmarks.workload import Batch, Workload, make_step
from components.transform.packing import pack
from models.inputs import make_parser
from models.plan import FIELDS, FIRST_INDEX, USER_GROUP, RankerPlan
from schemas import features

MODELS: dict[str, dict[str, Any]] = {
    "hyformer+lens": {"backbone": "hyformer", "lens": {}, "position": "query_specific"},
    "din": {"backbone": "din"},
    "twin": {"backbone": "twin"},
}
# Beside its message, a TFRecord has a length and two checksums.
FRAME_BYTES = 16


def main() -> None:
    """Measures the models and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--impressions", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    workload = Workload()
    packed, single = make_records(workload, arguments.batches, arguments.impressions)
    sizes = {
        kind: sum(len(record) + FRAME_BYTES for records in batches for record in records)
        for kind, batches in (("packed", packed), ("single", single))
    }
    results: dict[str, Any] = {"bytes": sizes}
    print(
        f"{sizes['packed'] / sizes['single']:.3f} times the bytes: {sizes['packed']:,} packed, "
        f"{sizes['single']:,} one by one"
    )
    print(f"{'model':<14} {'packed':>8} {'single':>8} {'times':>6} {'processor':>9}  loss")
    plan = workload.plan
    pairs = [
        (parse(ours, plan, packed=True), parse(theirs, plan, packed=False))
        for ours, theirs in zip(packed, shuffled(single), strict=True)
    ]
    same = parse(single[0], plan, packed=False)
    for name in arguments.only:
        result = results[name] = measure(workload, MODELS[name], pairs, same)
        print(
            f"{name:<14} {result['packed']:>8.0f} {result['single']:>8.0f}"
            f" {result['times']:>6.2f} {result['times_processor']:>9.2f}"
            f"  {result['losses'][0]:.7f} {result['losses'][1]:.7f}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def measure(
    workload: Workload, model: dict[str, Any], pairs: list[tuple[Batch, Batch]], same: Batch
) -> dict[str, Any]:
    """Returns examples a second and their ratio; the first pair is not timed."""
    ranker = workload.make_ranker(model)
    losses = [float(ranker.compute_loss(batch)) for batch in (pairs[0][0], same)]
    steps = [make_step(ranker, batch, training=True) for batch in pairs[0]]
    rates: list[list[float]] = [[], []]
    work: list[list[float]] = [[], []]
    for index, pair in enumerate(pairs):
        for side in (0, 1) if index % 2 else (1, 0):
            rows = int(tf.size(pair[side][features.LABEL]))
            began, began_work = time.perf_counter(), time.process_time()
            steps[side](pair[side]).numpy()
            if index:
                rates[side].append(rows / (time.perf_counter() - began))
                work[side].append(rows / (time.process_time() - began_work))
    by_wall, by_processor = (
        [ours / theirs for ours, theirs in zip(*found, strict=True)] for found in (rates, work)
    )
    return {
        "packed": statistics.median(rates[0]),
        "single": statistics.median(rates[1]),
        "times": statistics.median(by_wall),
        "times_processor": statistics.median(by_processor),
        "losses": losses,
        "rates": rates,
        "processor_rates": work,
    }


def make_records(
    workload: Workload, batches: int, impressions: int
) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Returns the records of each batch, packed, and one by one in the same order."""
    random = np.random.default_rng(1)
    weights = np.cumsum(1.0 / np.arange(1, workload.items + 1))
    packed, single = [], []
    for _ in range(batches):
        rows, totals = _rows(workload, weights / weights[-1], impressions, random)
        packed.append(encode(pack(rows, totals, impressions)))
        single.append(encode(rows))
    return packed, single


def shuffled(batches: list[list[bytes]]) -> list[list[bytes]]:
    """Deals the records of all batches out anew, as a shuffled training reads them."""
    records = [record for batch in batches for record in batch]
    order = np.random.default_rng(2).permutation(len(records))
    ends = np.cumsum([len(batch) for batch in batches])
    return [[records[index] for index in part] for part in np.split(order, ends[:-1])]


def parse(records: list[bytes], plan: RankerPlan, *, packed: bool) -> Batch:
    """Parses a batch as training does, without what the workload's step does not read."""
    batch = make_parser(dataclasses.replace(plan, packed=packed))(tf.constant(records))
    batch.pop(USER_GROUP)
    return batch


def _rows(
    workload: Workload, cumulated: np.ndarray, impressions: int, random: np.random.Generator
) -> tuple[pa.RecordBatch, np.ndarray]:
    """One batch of rows, a user's one after another, and the events known before each."""
    users = max(1, round(workload.batch_size / impressions))
    known = workload.lengths(random, users)[:, np.newaxis] + np.arange(impressions)
    lengths = np.minimum(known, workload.max_length).ravel()

    def items(count: int) -> np.ndarray:
        return np.searchsorted(cumulated, random.random(count)) + FIRST_INDEX

    lives = [items(int(last)) for last in known[:, -1]]
    histories = [
        lives[row // impressions][total - length : total]
        for row, (total, length) in enumerate(zip(known.ravel(), lengths, strict=True))
    ]
    count = users * impressions
    offsets = np.arange(workload.fields) * workload.field_values + FIRST_INDEX
    fields = random.integers(0, workload.field_values, [count, workload.fields]) + offsets
    one = np.ones(count, np.int64)
    batch = {
        features.ITEM_ID: _lists(items(count), one),
        features.HISTORY_ITEM_ID: _lists(np.concatenate(histories), lengths),
        FIELDS: _lists(fields.ravel(), one * workload.fields),
        features.LABEL: _lists((random.random(count) < 0.2).astype(np.float32), one),
        USER_GROUP: _lists(np.repeat(random.integers(0, 2**62, users), impressions), one),
    }
    return pa.record_batch(batch), known.ravel()


def _lists(values: np.ndarray, lengths: np.ndarray) -> pa.LargeListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


if __name__ == "__main__":
    main()
