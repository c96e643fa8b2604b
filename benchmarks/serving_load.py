"""What a new version costs the server, step by step, with and without a waiting session.

    python -m benchmarks.serving_load FOLDER/versions/1 [--rounds 3]

The folder is a version of ``benchmarks/serving_model.py`` or any other. Each round loads it twice
as the server does: the first time nothing is known of its graph, the second time a session of its
graph waits, as after a version that differs in its weights only was replaced. Printed are medians
over the rounds, in seconds of computing (all threads of this process) and of the clock: importing
the graph, reading weights and tables, and the first run of every signature on made-up inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.server.config import RuntimeConfig
from serving.server.metrics import ServingMetrics
from serving.server.versions.model import Model
from serving.server.versions.sessions import Sessions
from serving.server.versions.warmup import warm

STEPS = ("import", "weights", "first runs")
# A session waits only while its graph is in use, as by the version that took over.
_SPARE_SECONDS = 3600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    rounds = [measure(arguments.model) for _ in range(arguments.rounds)]
    found: dict[str, Any] = {
        kind: {
            step: {
                clock: round(statistics.median(one[kind][step][clock] for one in rounds), 3)
                for clock in ("computing", "clock")
            }
            for step in STEPS
        }
        for kind in ("new graph", "waiting session")
    }
    print(json.dumps({**found, "rounds": arguments.rounds, "load": os.getloadavg()[0]}))


def measure(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Loads a version with a graph of its own, and again with a session that waits."""
    sessions = Sessions(RuntimeConfig(), spare_seconds=_SPARE_SECONDS)
    kept, first = load(folder, sessions)
    replaced, _ = load(folder, sessions)
    replaced.close()
    again, second = load(folder, sessions)
    for model in (kept, again):
        model.close()
    return {"new graph": first, "waiting session": second}


def load(folder: Path, sessions: Sessions) -> tuple[Model, dict[str, dict[str, float]]]:
    """Loads a version in the steps of ``serving/server/server.py``, timing each."""
    times: dict[str, dict[str, float]] = {}
    model = timed(times, STEPS[0], lambda: Model(folder, sessions))
    timed(times, STEPS[1], model.fill)
    metrics = ServingMetrics()
    timed(times, STEPS[2], lambda: warm(model, folder, metrics, make_up=True))
    return model, times


def timed(times: dict[str, dict[str, float]], step: str, work: Callable[[], Any]) -> Any:
    """Runs a step and notes what it took."""
    clock, computing = time.perf_counter(), time.process_time()
    result = work()
    times[step] = {
        "computing": time.process_time() - computing,
        "clock": time.perf_counter() - clock,
    }
    return result


if __name__ == "__main__":
    main()
