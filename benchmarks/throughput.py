"""Training on the long workload, compared in two ways.

    python -m benchmarks.throughput [--compare padding | reading] [--only din twin ...]
        [--groups 8] [--rounds 5] [--steps 3] [--json FILE]

``padding``: length groups against a single group, which pads every history to the longest of the
batch, as good as always the maximum. ``reading``: examples read from TFRecord files as the trainer
reads them, parsed and shuffled, against examples in memory, both in length groups.

For each model two processes train the same ranker. They take turns, a few steps each, so that the
noise of the machine hits both, and rates are medians over the rounds. A step reads its batch from
a tf.data pipeline in random order and updates all weights. Peak memory is that of the process above
what it held after its imports.

Figures go to FILE after each model; what it holds already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

# Read by the C library of the processes that are started: pages of large temporary tensors are
# kept, which both sides profit from, the padded one the most.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "MALLOC_TOP_PAD_": "268435456",
}
MODELS: dict[str, dict[str, Any]] = {
    "din": {"backbone": "din"},
    "twin": {"backbone": "twin"},
    "hyformer+lens+lain": {
        "backbone": "hyformer", "lens": {}, "position": "query_specific", "lain": {},
    },
    "sim": {"backbone": "sim"},
    "sdim": {"backbone": "sdim"},
}  # fmt: skip
# Of each side whether it trains in length groups and reads from files; the first is compared with
# the second.
COMPARISONS = {
    "padding": {"grouped": (True, False), "padded": (False, False)},
    "reading": {"files": (True, True), "memory": (True, False)},
}
TARGETS = {
    "padding": {"din": 4, "twin": 2.5, "hyformer+lens+lain": 4},
    "reading": {"din": 0.9},
}
FILES = 8
SHUFFLE_BUFFER = 4_096


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compare", choices=COMPARISONS, default="padding")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--batch-size", type=int, default=1_024)
    parser.add_argument("--batches", type=int, default=8, help="batches in memory")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    os.environ.update(ALLOCATOR)
    figures: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        figures = json.loads(arguments.json.read_text(encoding="utf-8"))
    sides = COMPARISONS[arguments.compare]
    print("| model | side | examples/s | tokens/s | padding | peak memory, MB | times | target |")
    print("|---|---|" + "---:|" * 6)
    for name in arguments.only:
        if name not in figures:
            figures[name] = measure(name, arguments)
        target = TARGETS[arguments.compare].get(name, "")
        for row in _table_rows(name, list(sides), figures[name], str(target)):
            print(row, flush=True)
        if arguments.json:
            staged = arguments.json.with_suffix(".staged")
            staged.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            staged.replace(arguments.json)


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of both sides of a model."""
    context = multiprocessing.get_context("spawn")
    sides = COMPARISONS[arguments.compare]
    workers: dict[str, Any] = {}
    for side, (is_grouped, from_files) in sides.items():
        ours, theirs = context.Pipe()
        model = {**MODELS[name], "length_groups": arguments.groups if is_grouped else 1}
        process = context.Process(
            target=work, args=(theirs, model, from_files, arguments), daemon=True
        )
        process.start()
        theirs.close()
        workers[side] = (process, ours)
    connections = {side: connection for side, (_, connection) in workers.items()}
    for connection in connections.values():
        connection.recv()  # traced and warm
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(arguments.rounds):
        for side in sides if number % 2 else reversed(sides):
            connections[side].send(arguments.steps)
            turns[side].append(connections[side].recv())
    found = {}
    for side, (process, connection) in workers.items():
        connection.send(0)
        memory = connection.recv()
        process.join()
        found[side] = {**_rates(turns[side]), **memory, "turns": turns[side]}
    first, second = sides
    found["times"] = {
        key: found[first][key] / found[second][key]
        for key in ("examples_per_second", "examples_per_processor_second", "peak_memory_mb")
    }
    return found


def work(
    connection: Connection, model: dict[str, Any], from_files: bool, arguments: argparse.Namespace
) -> None:
    """Trains so many steps as it is told, until it is told none."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from benchmarks.workload import Workload, make_step
    from models.inputs import make_dataset
    from models.length_groups import padded_events

    imported = _resident_mb()
    workload = Workload(batch_size=arguments.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        if not from_files:
            dataset = workload.dataset(arguments.batches)
        else:
            dataset = make_dataset(
                workload.write_files(folder, arguments.batches, FILES),
                workload.plan,
                batch_size=arguments.batch_size,
                shuffle_seed=1,
                shuffle_buffer=SHUFFLE_BUFFER,
            ).repeat()
        ranker = workload.make_ranker(model)
        batches: Iterator[dict[str, Any]] = iter(dataset)
        step = make_step(ranker, next(batches), training=True)
        for _ in range(2):
            step(next(batches)).numpy()
        connection.send("ready")
        while steps := connection.recv():
            tokens = padded = 0
            began, began_work = time.perf_counter(), time.process_time()
            for _ in range(steps):
                batch = next(batches)
                step(batch).numpy()
                lengths = workload.history(batch).row_lengths()
                tokens += int(lengths.numpy().sum())
                padded += int(padded_events(lengths, model["length_groups"]))
            seconds, work_seconds = time.perf_counter() - began, time.process_time() - began_work
            connection.send(
                {
                    "examples": steps * arguments.batch_size,
                    "tokens": tokens,
                    "padded": padded,
                    "seconds": seconds,
                    "processor_seconds": work_seconds,
                }
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        connection.send({"peak_memory_mb": peak - imported, "imports_mb": imported})


def _rates(turns: list[dict[str, float]]) -> dict[str, float]:
    def median(over: str, by: str) -> float:
        return statistics.median(turn[over] / turn[by] for turn in turns)

    tokens, padded = (sum(turn[key] for turn in turns) for key in ("tokens", "padded"))
    return {
        "examples_per_second": median("examples", "seconds"),
        "examples_per_processor_second": median("examples", "processor_seconds"),
        "tokens_per_second": median("tokens", "seconds"),
        "padding": 1 - tokens / padded,
    }


def _resident_mb() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def _table_rows(name: str, sides: list[str], found: dict[str, Any], target: str) -> list[str]:
    times = cast(dict[str, float], found["times"])
    rows = []
    for side in sides:
        own = found[side]
        cells = [
            f"{own['examples_per_second']:,.0f}",
            f"{own['tokens_per_second']:,.0f}",
            f"{own['padding']:.0%}",
            f"{own['peak_memory_mb']:,.0f}",
        ]
        last = ["", ""]
        if side == sides[0]:
            last = [
                f"{times['examples_per_second']:.2f} (processor time "
                f"{times['examples_per_processor_second']:.2f}, memory "
                f"{times['peak_memory_mb']:.2f})",
                target,
            ]
        rows.append(f"| {name} | {side} | {' | '.join([*cells, *last])} |")
    return rows


if __name__ == "__main__":
    main()
