"""What a larger item table costs a training step, on the long workload.

    python benchmarks/table_growth.py [--items 500000 5000000] [--rounds 5] [--json FILE]

For each size a din ranker with its table takes training steps in one process, a few steps of one
and then of the other, round by round. ``same batches`` gives all of them the batches of the
smallest, so that only the size of the table differs; ``own batches`` draws the items of each by
Zipf(1) over all of its items, so that a larger table is also read in more places. Printed are the
median times of a step and their ratios to the smallest.
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

from benchmarks.workload import Batch, Workload, make_step

STEPS = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--optimizer", default="lazy_adam")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=Workload().batch_size)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    workload = Workload(batch_size=arguments.batch_size)
    result = measure(workload, sorted(arguments.items), arguments.optimizer, arguments.rounds)
    for name, sides in result.items():
        smallest = statistics.median(sides[0]["seconds"])
        for side in sides:
            median = statistics.median(side["seconds"])
            print(
                f"{name}, {side['items']:,} items, {side['unique_rows']:,.0f} rows a step: "
                f"{median:.3f} s a step ({min(side['seconds']):.3f} to "
                f"{max(side['seconds']):.3f}), {median / smallest:.2f} times"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(
    base: Workload, items: list[int], optimizer: str, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Times the steps of a ranker for each size.

    Args:
        base: the workload but for its items.
        items: sizes of the table, smallest first.
        optimizer: of the tables.
        rounds: how often each side takes its turn.

    Returns:
        By kind of batches, a side for each size: ``items``, ``unique_rows`` of the item table that
        a step reads, and ``seconds`` a step, one for each round.
    """
    workloads = [dataclasses.replace(base, items=count) for count in items]
    train = {"table_optimizer": optimizer}
    rankers = [workload.make_ranker({"backbone": "din"}, train) for workload in workloads]
    own = [workload.batches(STEPS) for workload in workloads]
    steps = [
        make_step(ranker, batches[0], training=True)
        for ranker, batches in zip(rankers, own, strict=True)
    ]
    kinds = {"same batches": [own[0]] * len(items), "own batches": own}
    result: dict[str, list[dict[str, Any]]] = {
        name: [
            {"items": count, "unique_rows": _unique_rows(batches), "seconds": []}
            for count, batches in zip(items, sides, strict=True)
        ]
        for name, sides in kinds.items()
    }
    # The first round traces and touches memory for the first time.
    for number in range(rounds + 1):
        for name, sides in kinds.items():
            for step, batches, side in zip(steps, sides, result[name], strict=True):
                seconds = _time(step, batches)
                if number:
                    side["seconds"].append(seconds)
    return result


def _time(step: Any, batches: list[Batch]) -> float:
    began = time.perf_counter()
    for batch in batches:
        step(batch).numpy()
    return (time.perf_counter() - began) / len(batches)


def _unique_rows(batches: list[Batch]) -> float:
    """Rows of the item table that a batch reads, on average."""
    sizes = [
        len({*batch["item_id"].numpy(), *batch["history_item_id"].values.numpy()})
        for batch in batches
    ]
    return statistics.mean(sizes)


if __name__ == "__main__":
    main()
