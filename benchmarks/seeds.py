"""Test metrics of backbones over seeds, each a whole run of the pipeline.

    python benchmarks/seeds.py CONFIG --results FOLDER [--backbones pooled din] [--seeds 1 2 3]
        [--set section.key=value ...]

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
    parser.add_argument("--backbones", nargs="+", default=["pooled", "din"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    summaries: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.backbones}
    for seed in arguments.seeds:
        for backbone in arguments.backbones:
            path = arguments.results / f"{backbone}-{seed}.json"
            if not path.exists():
                settings = [f"model.backbone={backbone}", f"train.seed={seed}"]
                run(arguments.config, [*arguments.overrides, *settings], path)
            summaries[backbone].append(json.loads(path.read_text(encoding="utf-8")))
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
    for backbone, runs in summaries.items():
        epochs = [run["training"]["chosen_epoch"] for run in runs]
        cells = [_cell([run["overall"][metric] for run in runs]) for metric in metrics]
        print(f"| {backbone} | {' | '.join(cells)} | {epochs} |")
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
