"""What Beam costs: the examples job against a plain process calling the same column functions.

    python benchmarks/examples_overhead.py CONFIG --set data.path=DIR [--runs 5]

Each run is a process of its own, Beam and plain in turn; the times are of the job alone, without
imports, so that the ratio is not flattered by what both pay.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zoneinfo
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_jobs.plan import Plan

ROOT = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the pairs, or one job in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--job", choices=["beam", "plain"], help="one job, in this process")
    arguments = parser.parse_args(argv)
    if arguments.job:
        print(json.dumps(run_job(arguments.job, arguments.config, arguments.overrides)))
        return
    command = [sys.executable, __file__, arguments.config]
    command += [part for override in arguments.overrides for part in ("--set", override)]
    results: dict[str, list[dict[str, float]]] = {"beam": [], "plain": []}
    for _ in range(arguments.runs):
        for job, found in results.items():
            done = subprocess.run(
                [*command, "--job", job], cwd=ROOT, capture_output=True, text=True, check=True
            )
            found.append(json.loads(done.stdout.splitlines()[-1]))
    for job, found in results.items():
        seconds = [one["seconds"] for one in found]
        peak = max(one["peak_mb"] for one in found)
        print(
            f"{job:<6} median {statistics.median(seconds):6.2f} s, min {min(seconds):.2f}, "
            f"max {max(seconds):.2f}, peak {peak:,.0f} MB, {found[0]['examples']:,.0f} examples"
        )
    pairs = zip(results["beam"], results["plain"], strict=True)
    ratios = [beam["seconds"] / plain["seconds"] for beam, plain in pairs]
    print(f"ratio  median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


def run_job(job: str, config_path: str, overrides: Sequence[str]) -> dict[str, float]:
    """Runs one job into a temporary folder and returns its time, memory and examples."""
    from pipeline.config import load_config
    from pipeline.prepare import prepare_data

    config = load_config(config_path, overrides)
    _, plan, _ = prepare_data(config)
    run = beam_job if job == "beam" else plain_job
    place = Path(config.run.root).parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        start = time.perf_counter()
        examples = run(plan, Path(folder))
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "examples": examples}


def beam_job(plan: Plan, folder: Path) -> int:
    """The job as the pipeline runs it."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.examples import run_examples
    from pipeline.commands.examples import DEFAULT_RUNNER

    report = run_examples(
        plan,
        lambda: beam.Pipeline(options=PipelineOptions([DEFAULT_RUNNER])),
        str(folder / "examples"),
        snapshot_output=str(folder / "snapshot"),
    )
    return sum(report.examples.values())


def plain_job(plan: Plan, folder: Path) -> int:
    """The same column functions, one after the other, with all users in one shard."""
    import numpy as np
    import pyarrow as pa

    from beam_jobs import snapshot as snapshots
    from beam_jobs.encode import encode, shard_batches, write_records
    from beam_jobs.events import ORIGIN, Origin, clean_events
    from beam_jobs.normalise import local_days, normalise
    from beam_jobs.prior import read_prior
    from beam_jobs.reading import log_columns, read_batches
    from beam_jobs.side import empty_side, read_side
    from beam_jobs.splits import resolve_bounds
    from beam_jobs.transforms import CleanShard, to_ipc

    description, config = plan.description, plan.config
    zone = zoneinfo.ZoneInfo(description.log.timezone)
    batches: list[Any] = []
    days: Counter[int] = Counter()
    for file in plan.log:
        for raw in read_batches(file, log_columns(description), []):
            events = normalise(raw, description).events
            number, rows = np.unique(
                local_days(np.asarray(events.column("time")), zone), return_counts=True
            )
            days.update(dict(zip(number.tolist(), rows.tolist(), strict=True)))
            batches.append(events)
    bounds = resolve_bounds(plan.split, zone, days)
    known = snapshots.known_schema(description).empty_table()
    tables = {"log": [to_ipc(pa.Table.from_batches(batches))], "history": []}
    if plan.prior:
        prior, known = read_prior(plan.prior, description, config.history)
        tables["history"] = [to_ipc(prior)]
    nowhere: Any = None  # nothing is put aside here
    clean = clean_events(CleanShard(description, nowhere)._all_events(tables), bounds)
    events = clean.events
    time_ms = np.asarray(events.column("time"))
    train = (bounds.split_of(time_ms) == 0) & (np.asarray(events.column(ORIGIN)) != Origin.HISTORY)
    counts = events.filter(pa.array(train)).group_by("item").aggregate([([], "count_all")])
    counts = counts.rename_columns({"count_all": "samples"}).combine_chunks()
    user_side, item_side = description.side.user, description.side.item
    users = empty_side((), description.user.type)
    if user_side is not None:
        kind, share = description.user.type, config.max_rejected_share
        users, _ = read_side(plan.users, user_side, kind, share)
    items = empty_side((), description.item.type)
    if item_side is not None:
        kind, share = description.item.type, config.max_rejected_share
        items, _ = read_side(plan.items, item_side, kind, share)
    written = 0
    streams = {
        name: (folder / f"{name}.tfrecord").open("wb") for name in ("train", "validation", "test")
    }
    for split, batch in shard_batches(
        events, known, users, items, counts, bounds, description, config
    ):
        records = encode(batch)
        write_records(records, streams[split])
        written += len(records)
    for stream in streams.values():
        stream.close()
    last = int(time_ms.max())
    carried, known = snapshots.carried_state(events, known, description, config.history, last)
    snapshots.write_parquet(carried, str(folder / "events.parquet"))
    snapshots.write_parquet(known, str(folder / "known.parquet"))
    return written


if __name__ == "__main__":
    main()
