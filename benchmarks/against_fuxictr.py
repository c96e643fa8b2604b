"""Training on the long workload against FuxiCTR, whose histories are padded to the maximum.

FuxiCTR needs an environment of its own, of Python 3.11:

    python3.11 -m venv /tmp/fuxictr
    /tmp/fuxictr/bin/pip install torch==2.13.0 numpy pandas pyyaml scikit-learn h5py tqdm pyarrow \
        polars pydantic "ray[data]"
    /tmp/fuxictr/bin/pip install --no-deps fuxictr==2.3.10
    python -m benchmarks.against_fuxictr --python /tmp/fuxictr/bin/python \
        [--only din twin ...] [--rounds 5] [--steps 3] [--json FILE]

where torch is the build for processors. For each model a process with this project and one with
FuxiCTR's model of that name, from its own wheel, take turns of a few steps each. Ours puts its
batches together by tf.data while it trains; FuxiCTR's are tensors in memory, so that its loader
costs nothing. Sizes are the same on both sides, heads and activations those of each side's
defaults otherwise. Both keep freed memory. Rates are medians over the turns.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import throughput

TIMES_FASTER = {"din": 6, "twin": 4, "sim": 3, "sdim": 1.6}
SIDE = Path(__file__).with_name("fuxictr_side.py")
THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter of FuxiCTR's environment")
    parser.add_argument("--only", nargs="+", choices=TIMES_FASTER, default=list(TIMES_FASTER))
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--batch-size", type=int, default=1_024)
    parser.add_argument("--batches", type=int, default=8, help="batches in memory")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    os.environ.update(throughput.ALLOCATOR)
    figures = {}
    print("| model | ours, examples/s | FuxiCTR | times | in processor time | target |")
    print("|---|" + "---:|" * 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batches.npz"
        # In a process of its own, which leaves TensorFlow out of this one.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_batches, args=(path, arguments)
        )
        writer.start()
        writer.join()
        for name in arguments.only:
            found = figures[name] = measure(name, path, arguments)
            print(
                f"| {name} | {found['ours']:,.0f} | {found['theirs']:,.0f} | {found['times']:.2f} "
                f"| {found['times_processor']:.2f} | {TIMES_FASTER[name]} |",
                flush=True,
            )
            if arguments.json:
                text = json.dumps(figures, indent=2) + "\n"
                arguments.json.write_text(text, encoding="utf-8")


def measure(name: str, path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns examples a second of both sides of a model."""
    context = multiprocessing.get_context("spawn")
    ours, worker_end = context.Pipe()
    model = {**throughput.MODELS[name], "length_groups": arguments.groups}
    worker = context.Process(
        target=throughput.work, args=(worker_end, model, False, arguments), daemon=True
    )
    worker.start()
    worker_end.close()
    with subprocess.Popen(
        [arguments.python, str(SIDE), name, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **THREADS, "PYTHONPATH": ""},
    ) as theirs:
        assert theirs.stdin is not None
        assert theirs.stdout is not None
        ours.recv()
        if not theirs.stdout.readline():
            raise RuntimeError(f"{arguments.python} {SIDE} {name}: ended before its first step")
        turns: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for _ in range(arguments.rounds):
            ours.send(arguments.steps)
            turns["ours"].append(ours.recv())
            theirs.stdin.write(f"{arguments.steps}\n")
            theirs.stdin.flush()
            turns["theirs"].append(json.loads(theirs.stdout.readline()))
        theirs.stdin.close()
    ours.send(0)
    memory = ours.recv()
    worker.join()
    examples = arguments.steps * arguments.batch_size
    rates = {
        side: {
            clock: statistics.median(examples / turn[clock] for turn in own)
            for clock in ("seconds", "processor_seconds")
        }
        for side, own in turns.items()
    }
    times = {clock: rates["ours"][clock] / rates["theirs"][clock] for clock in rates["ours"]}
    return {
        "ours": rates["ours"]["seconds"],
        "theirs": rates["theirs"]["seconds"],
        "times": times["seconds"],
        "times_processor": times["processor_seconds"],
        "ours_peak_mb": memory["imports_mb"] + memory["peak_memory_mb"],
        "theirs_peak_mb": turns["theirs"][-1]["peak_mb"],
        "turns": turns,
    }


def write_batches(path: Path, arguments: argparse.Namespace) -> None:
    """Writes the batches that FuxiCTR trains on, padded on the left, the target last."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    from benchmarks.workload import Workload
    from models.backbones.config import LongHistoryOptions
    from models.config import ModelConfig
    from models.plan import FIELDS
    from schemas import features

    workload = Workload(batch_size=arguments.batch_size)
    arrays: dict[str, Any] = {}
    batches = workload.batches(arguments.batches)
    for number, batch in enumerate(batches):
        items = np.zeros([arguments.batch_size, workload.max_length + 1], np.int64)
        for row, events in enumerate(workload.history(batch).to_list()):
            items[row, workload.max_length - len(events) : -1] = events
        items[:, -1] = batch[features.ITEM_ID].numpy()
        # One vocabulary each, where ours are stacked.
        offsets = np.arange(workload.fields) * workload.field_values
        arrays[f"items_{number}"] = items
        arrays[f"fields_{number}"] = batch[FIELDS].numpy() - offsets
        arrays[f"label_{number}"] = batch[features.LABEL].numpy()
    long = LongHistoryOptions()
    settings = {
        "batches": len(batches),
        "items": workload.items,
        "fields": workload.fields,
        "field_values": workload.field_values,
        "embedding_dim": workload.embedding_dim,
        "hidden_units": list(workload.hidden_units),
        "attention_units": list(ModelConfig().attention_units),
        "heads": long.heads,
        "hashes": long.hashes,
    }
    np.savez(path, settings=json.dumps(settings), **arrays)


if __name__ == "__main__":
    main()
