"""Metrics of the values of one setting over seeds, each a whole run of the pipeline.

    python benchmarks/seeds.py CONFIG --results FOLDER [--vary model.backbone pooled din]
        [--seeds 1 2 3] [--set section.key=value ...]

Examples and transformed examples come from the cache after the first run. A run whose summary is
in FOLDER already is not started again. Thresholds do not matter here: a refused model counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Starts the runs that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--vary", nargs="+", metavar="KEY VALUE", default=["model.backbone", "pooled", "din"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    key, *values = arguments.vary
    summaries: dict[str, list[dict[str, Any]]] = {value: [] for value in values}
    for seed in arguments.seeds:
        for value in values:
            path = arguments.results / f"{value}-{seed}.json"
            if not path.exists():
                settings = [f"{key}={value}", f"train.seed={seed}"]
                run(arguments.config, [*arguments.overrides, *settings], path)
            summaries[value].append(json.loads(path.read_text(encoding="utf-8")))
    print_table(summaries)


def run(config: str, overrides: list[str], summary: Path) -> None:
    """Runs the pipeline; a refused model is a result as well."""
    command = [sys.executable, "-m", "pipeline.cli", "run", config, "--summary"]
    command += [f"{summary}.partial"]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"the run failed with code {done.returncode}")
    Path(f"{summary}.partial").rename(summary)


def print_table(summaries: dict[str, list[dict[str, Any]]]) -> None:
    """Prints mean and sample standard deviation, overall and by slice, as Markdown."""
    first = next(iter(summaries.values()))[0]
    metrics = ["auc", "gauc", "log_loss", "calibration"]
    print("| | test " + " | ".join(metrics) + " | validation auc | examples/s | epochs |")
    print("|---|" + "---|" * (len(metrics) + 3))
    for value, runs in summaries.items():
        trainings = [run["training"] for run in runs]
        cells = [_cell([run["overall"][metric] for run in runs]) for metric in metrics]
        cells.append(_cell([training["validation"]["auc"] for training in trainings]))
        speed = max(epoch["examples_per_second"] for t in trainings for epoch in t["epochs"])
        epochs = [training["chosen_epoch"] for training in trainings]
        print(f"| {value} | {' | '.join(cells)} | {speed:,.0f} | {epochs} |")
    print()
    names = [name for name in first["slices"] if "," not in name]
    for name in names:
        count = first["slices"][name]["example_count"]
        row = []
        for runs in summaries.values():
            values = [run["slices"][name]["auc"] for run in runs]
            row.append("-" if None in values else _cell(values))
        print(f"| {name} | {count:,} | {' | '.join(row)} |")


def _cell(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    main()
