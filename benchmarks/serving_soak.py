"""A soak: one server under steady load for an hour, its memory and its answers as a series.

    python -m benchmarks.serving_soak MODEL EXAMPLES --output soak.jsonl [--minutes 60]
        [--every 30] [--swap-minutes 10] [--rate CALLS_A_SECOND] [--set KEY=VALUE]

MODEL is a SavedModel folder, EXAMPLES a TFRecord file of examples for it
(``benchmarks/serving_model.py`` writes both). The rate is half the
measured maximum unless it is given, so that two runs can be compared. Each ``--every`` seconds a
line is appended to the output: calls, failures by code, latency percentiles, the server's memory
and the machine's load. A run that is broken off goes on where it stopped: with the same output it
takes the rate from there, and sends for as many minutes as are missing (to a fresh server, whose
memory the verdict judges by itself). The same model is pushed again as a new version every
``--swap-minutes``; 0 swaps never.

Memory is flat if its line of least squares over the last three quarters of a server's life, the
first of which holds what TensorFlow sets up, rises by less than 5 % of the mean.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving_batching import measure
from benchmarks.serving_processes import Running, percentile, predict_requests, serving
from benchmarks.serving_swap import Outcome, push_copy, send_steadily

_CLIENTS = 64
_MAX_RATE_SECONDS = 10.0
_FLAT_SHARE = 0.05
_FEWEST_POINTS = 8

Line = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, appends to the series and prints what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--swap-minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    lines = read_series(arguments.output)
    missing = arguments.minutes * 60 - sum(line["seconds"] for line in lines)
    if missing > 0:
        lines += soak(arguments, lines, missing)
    print(verdict(lines))


def read_series(path: Path) -> list[Line]:
    """Returns the lines of an earlier run; one that was cut off in the middle is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def soak(arguments: argparse.Namespace, earlier: Sequence[Line], seconds: float) -> list[Line]:
    """Runs one server for so many seconds; returns the lines that it appended."""
    requests = predict_requests(arguments.examples, 256)
    number = earlier[-1]["server"] + 1 if earlier else 1
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder)
        push_copy(arguments.model, versions, 1)
        with serving(versions, *arguments.settings) as server:
            rate = arguments.rate or (earlier[-1]["rate"] if earlier else _half(server, requests))
            start = time.monotonic()
            pushes = Pushes(arguments.model, versions, arguments.swap_minutes * 60)
            while (done := time.monotonic() - start) < seconds:
                pushes.catch_up(done)
                begun = time.monotonic()
                span = min(arguments.every, seconds - done)
                outcome = send_steadily(server.address, requests, rate, span)
                line = {
                    "server": number,
                    "rate": rate,
                    "seconds": time.monotonic() - begun,
                    **describe(outcome),
                    "pushed": pushes.newest,
                    "memory_mib": server.resident_mebibytes(),
                    "load_average": os.getloadavg()[0],
                }
                append(arguments.output, line)
                lines.append(line)
    return lines


class Pushes:
    """Pushes a model again each time its age says so.

    Attributes:
        newest: number of the last version.
    """

    def __init__(self, model: Path, versions: Path, every: float):
        self.newest = 1
        self._model = model
        self._versions = versions
        self._every = every

    def catch_up(self, age: float) -> None:
        """Pushes if a push is due, and removes what no longer serves."""
        if not self._every or age < self.newest * self._every:
            return
        self.newest += 1
        push_copy(self._model, self._versions, self.newest)
        shutil.rmtree(self._versions / str(self.newest - 2), ignore_errors=True)


def describe(outcome: Outcome) -> Line:
    """Returns what became of the calls of one span."""
    codes = {code: outcome.failures.count(code) for code in sorted(set(outcome.failures))}
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    latencies = outcome.latencies
    found = {
        name: percentile(latencies, share) * 1e3 if latencies else None
        for name, share in shares.items()
    }
    return {"answered": len(latencies), "failed": codes, **found}


def append(path: Path, line: Line) -> None:
    """Adds a line to the series, after one that was cut off as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = path.exists() and path.read_bytes()[-1:] not in (b"\n", b"")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * is_cut_off + json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def verdict(lines: Sequence[Line]) -> str:
    """Says whether calls failed and whether the memory of each server stayed flat."""
    if not lines:
        return "nothing was sent"
    answered = sum(line["answered"] for line in lines)
    failed: dict[str, int] = {}
    for line in lines:
        for code, count in line["failed"].items():
            failed[code] = failed.get(code, 0) + count
    minutes = sum(line["seconds"] for line in lines) / 60
    told = [
        f"{minutes:.1f} minutes at {lines[-1]['rate']:.0f} calls/s: {answered} answered, "
        f"failed: {failed or 'none'}; p99 of the spans "
        f"{statistics.median(line['p99_ms'] or math.inf for line in lines):.1f} ms (median), "
        f"load average {statistics.mean(line['load_average'] for line in lines):.1f}"
    ]
    for server in sorted({line["server"] for line in lines}):
        memory = [line["memory_mib"] for line in lines if line["server"] == server]
        told.append(f"server {server}: memory {_trend(memory)}")
    return "\n".join(told)


def _trend(memory: Sequence[float]) -> str:
    settled = memory[len(memory) // 4 :]
    if len(settled) < _FEWEST_POINTS:
        return f"{memory[0]:.0f} to {memory[-1]:.0f} MiB, too short to say more"
    slope = statistics.linear_regression(range(len(settled)), settled).slope
    rise = slope * (len(settled) - 1)
    word = "flat" if rise < _FLAT_SHARE * statistics.mean(settled) else "RISES"
    return (
        f"{word}: {rise:+.1f} MiB along the line through {len(settled)} readings, from "
        f"{settled[0]:.0f} to {settled[-1]:.0f}, at most {max(memory):.0f}"
    )


def _half(server: Running, requests: list[bytes]) -> float:
    most = measure(server.address, requests, _CLIENTS, _MAX_RATE_SECONDS).rate
    print(f"maximum: {most:.0f} calls/s, of which half is sent", flush=True)
    return most / 2


if __name__ == "__main__":
    main()
