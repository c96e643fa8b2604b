"""The examples job: raw logs in, length-annotated TFRecord examples and a snapshot out.

On this machine::

    lengthwise examples configs/kuairand_pure.yaml --output /tmp/examples

On a cluster, with paths that its workers can reach and the flags of its Beam runner (not run
here)::

    lengthwise examples CONFIG --output gs://BUCKET/examples --runner=DataflowRunner \\
        --project=PROJECT --region=REGION --temp_location=gs://BUCKET/tmp --setup_file=./setup.py

The way of the data: log files are read and normalised in batches; raw columns are grouped by
shard of users, once; a shard is sorted and cleaned, its training samples counted by item; with
the counts of all shards known, its windows are cut, joined, encoded and written. Nothing but
raw columns crosses the shuffle.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsSingleton

from beam_jobs.checks import check_rejected, check_splits
from beam_jobs.combiners import MergeItemCounts, SumCounters
from beam_jobs.errors import InputError, root_cause
from beam_jobs.files import (
    TEMPORARY,
    content,
    full_path,
    listing,
    put_in_place,
    remove_temporary,
    replacing,
    staging,
)
from beam_jobs.plan import Plan
from beam_jobs.snapshot import (
    MANIFEST,
    check_replaceable,
    make_manifest,
    write_manifest,
)
from beam_jobs.splits import NO_TIME, resolve_bounds, show
from beam_jobs.transforms import (
    CleanShard,
    CountItems,
    Layout,
    ReadItems,
    ReadLog,
    ReadPrior,
    ReadSnapshot,
    ReadUsers,
    SampleNegatives,
    WriteShard,
)
from schemas import features

REPORT = "report.json"
DEAD_LETTER = "dead_letter.jsonl"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExamplesReport:
    """What a run of the job did, as written to ``report.json``.

    Attributes:
        counts: counters: rows read, rejected and dropped by reason, values without a meaning.
        examples: examples by split.
        positives: examples with label 1 by split.
        bounds: the cuts in time, local ISO 8601.
        last_time: time of the last event, in milliseconds.
        seconds: wall time.
    """

    counts: dict[str, int]
    examples: dict[str, int]
    positives: dict[str, int]
    bounds: dict[str, str]
    last_time: int
    seconds: float = field(compare=False)


def run_examples(
    plan: Plan,
    make_pipeline: Callable[[], beam.Pipeline],
    output: str,
    *,
    snapshot_output: str | None = None,
    unchecked: bool = False,
    fingerprint: str = "",
    failed_dead_letter: str | None = None,
) -> ExamplesReport:
    """Runs the job and puts its results into place.

    Everything is written into a folder beside ``output`` and renamed when it is complete; a
    run that fails leaves nothing but its dead letter.

    Args:
        plan: the checked inputs.
        make_pipeline: makes the Beam pipeline, on whatever runner.
        output: folder for ``Split-train``, ``Split-validation``, ``Split-test``,
            ``report.json`` and ``dead_letter.jsonl``; empty or not there yet.
        snapshot_output: folder for the new history snapshot; none is written if not given.
        unchecked: marks the snapshot as one that is not to be started from until data validation
            has taken its day, and the mark away.
        fingerprint: identifies the input, for the snapshot's manifest.
        failed_dead_letter: where to leave the dead letter of a failed run.

    Raises:
        InputError: the raw data cannot be used; the message says why.
    """
    start = time.monotonic()
    output = full_path(output, what="the output folder")
    if snapshot_output is not None:
        snapshot_output = full_path(snapshot_output, what="the folder of the new snapshot")
        inner, outer = sorted((f"{output}/", f"{snapshot_output}/"), key=len, reverse=True)
        if inner.startswith(outer):
            raise InputError(
                f"{snapshot_output}: the folder of the new snapshot and that of the examples, "
                f"{output}, must not lie in one another"
            )
    if failed_dead_letter is not None and FileSystems.exists(failed_dead_letter):
        FileSystems.delete([failed_dead_letter])
    with contextlib.ExitStack() as stack:
        staged = stack.enter_context(staging(output))
        staged_snapshot = None
        if snapshot_output is not None:
            staged_snapshot = stack.enter_context(staging(snapshot_output))
            check_replaceable(snapshot_output)
        if content(output):
            raise InputError(f"{output}: the output folder is not empty")
        layout = Layout(output=staged, snapshot=staged_snapshot)
        try:
            layout.make_folders()
            with make_pipeline() as pipeline:
                build(pipeline, plan, layout)
            report = _finish(plan, layout, start)
            if staged_snapshot is not None:
                manifest = make_manifest(
                    plan.description,
                    plan.config.history,
                    last_time=report.last_time,
                    fingerprint=fingerprint,
                    parent=plan.snapshot,
                )
                write_manifest(staged_snapshot, manifest, examples=output, unchecked=unchecked)
            put_in_place(staged, output, last=(REPORT,))
            if snapshot_output is not None and staged_snapshot is not None:
                put_in_place(staged_snapshot, snapshot_output, last=(MANIFEST,))
        except Exception as error:
            if failed_dead_letter is not None:
                try:
                    _merge_dead_letters(layout, failed_dead_letter)
                except OSError as problem:
                    # Say what went wrong first, not that this did as well.
                    _logger.warning("%s: not written (%s)", failed_dead_letter, problem)
            raise root_cause(error) from error
    return report


def build(pipeline: beam.Pipeline, plan: Plan, layout: Layout) -> None:
    """Adds the whole job to a pipeline."""
    description, config = plan.description, plan.config
    log = (
        pipeline
        | "LogFiles" >> beam.Create(plan.log)
        | "SpreadFiles" >> beam.Reshuffle()
        | "ReadLog"
        >> beam.ParDo(ReadLog(description, config.shards, layout)).with_outputs(
            ReadLog.COUNTS, ReadLog.DAYS, main="rows"
        )
    )
    read_counts = log[ReadLog.COUNTS] | "SumReadCounts" >> beam.CombineGlobally(SumCounters())
    bounds = (
        log[ReadLog.DAYS]
        | "SumDays" >> beam.CombineGlobally(SumCounters())
        | "Bounds" >> beam.Map(_bounds, AsSingleton(read_counts), plan)
    )
    sources = [log.rows]
    users = (
        pipeline
        | "UserFiles" >> beam.Create([plan.users])
        | "ReadUsers"
        >> beam.ParDo(ReadUsers(description, config)).with_outputs(ReadUsers.COUNTS, main="rows")
    )
    sources.append(users.rows)
    if plan.prior:
        prior = pipeline | "PriorFiles" >> beam.Create([plan.prior])
        sources.append(prior | "ReadPrior" >> beam.ParDo(ReadPrior(description, config)))
    carried_counts = []
    if plan.snapshot is not None:
        carried = (
            pipeline
            | "Snapshot" >> beam.Create([plan.snapshot])
            | "ReadSnapshot"
            >> beam.ParDo(ReadSnapshot(description, config.shards)).with_outputs(
                ReadSnapshot.ITEM_COUNTS, main="rows"
            )
        )
        sources.append(carried.rows)
        carried_counts.append(carried[ReadSnapshot.ITEM_COUNTS])

    clean = (
        sources
        | "AllRows" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "Clean"
        >> beam.ParDo(CleanShard(description, layout), AsSingleton(bounds)).with_outputs(
            CleanShard.COUNTS, CleanShard.LAST_TIME, main="shards"
        )
    )
    carried_last_time = NO_TIME if plan.manifest is None else plan.manifest.last_time
    last_time = clean[CleanShard.LAST_TIME] | "LastTime" >> beam.CombineGlobally(
        _latest, carried_last_time
    )
    shards = clean.shards
    if description.negatives is not None:
        catalogue = _item_counts("Catalogue", shards, carried_counts, bounds, plan)
        shards = shards | "SampleNegatives" >> beam.ParDo(
            SampleNegatives(description.negatives), AsSingleton(catalogue), AsSingleton(bounds)
        )
    item_counts = _item_counts("Items", shards, carried_counts, bounds, plan)
    items = (
        pipeline
        | "ItemFiles" >> beam.Create([plan.items])
        | "ReadItems"
        >> beam.ParDo(ReadItems(description, config)).with_outputs(ReadItems.COUNTS, main="table")
    )
    written = shards | "Write" >> beam.ParDo(
        WriteShard(description, config, layout),
        AsSingleton(bounds),
        AsSingleton(items.table),
        AsSingleton(item_counts),
        AsSingleton(last_time),
    )
    side_counts = [users[ReadUsers.COUNTS], items[ReadItems.COUNTS]]
    _ = (
        [log[ReadLog.COUNTS], *side_counts, clean[CleanShard.COUNTS], written]
        | "AllCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombineGlobally(SumCounters())
        | "WriteCounts"
        >> beam.Map(
            _write_summary,
            layout,
            AsSingleton(bounds),
            AsSingleton(last_time),
            AsSingleton(item_counts),
        )
    )


def _item_counts(
    label: str,
    shards: beam.PCollection,
    carried: list[beam.PCollection],
    bounds: beam.PCollection,
    plan: Plan,
) -> beam.PCollection:
    counted = shards | f"{label}/Count" >> beam.ParDo(CountItems(), AsSingleton(bounds))
    return (
        [counted, *carried]
        | f"{label}/All" >> beam.Flatten()
        | f"{label}/Merge" >> beam.CombineGlobally(MergeItemCounts(plan.description))
    )


def _bounds(days: Counter[int], counts: Counter[str], plan: Plan) -> Any:
    check_rejected(counts, plan)
    if not days:
        listed = "; ".join(
            f"{number} rows {key.replace(':', ': ', 1)}"
            for key, number in sorted(counts.items())
            if number and key.startswith(("rejected:", "dropped:"))
        )
        raise InputError(f"none of {counts['rows_read']} rows of the log can be used: {listed}")
    zone = zoneinfo.ZoneInfo(plan.description.log.timezone)
    late = NO_TIME if plan.manifest is None else plan.manifest.last_time
    return resolve_bounds(plan.split, zone, days, late)


def _latest(times: Iterable[int], carried: int) -> int:
    """The last time of all; a log whose rows are all late has none of its own."""
    return max(times, default=carried)


def _write_summary(
    counts: Counter[str], layout: Layout, bounds: Any, last_time: int, item_counts: bytes
) -> None:
    layout.write_summary(counts, bounds, last_time, item_counts)


def _finish(plan: Plan, layout: Layout, start: float) -> ExamplesReport:
    counts, bounds, last_time = layout.read_summary()
    for folder in layout.folders():
        remove_temporary(folder)
    examples = {name: counts.pop(f"examples:{name}", 0) for name in features.SPLITS}
    positives = {name: counts.pop(f"positives:{name}", 0) for name in features.SPLITS}
    check_splits(plan, examples, positives, counts, bounds, last_time)
    zone = zoneinfo.ZoneInfo(plan.description.log.timezone)
    report = ExamplesReport(
        counts=dict(sorted(counts.items())),
        examples=examples,
        positives=positives,
        bounds={
            "train_start": show(bounds.train_start, zone),
            "validation_start": show(bounds.validation_start, zone),
            "test_start": show(bounds.test_start, zone),
            "end": show(bounds.end, zone),
        },
        last_time=last_time,
        seconds=round(time.monotonic() - start, 2),
    )
    _merge_dead_letters(layout, FileSystems.join(layout.output, DEAD_LETTER))
    with replacing(FileSystems.join(layout.output, REPORT)) as stream:
        stream.write((json.dumps(report.__dict__, indent=2) + "\n").encode())
    _logger.info("examples: %s, counters: %s", examples, report.counts)
    return report


def _merge_dead_letters(layout: Layout, target: str) -> None:
    parts = listing(layout.dead_letters) if FileSystems.exists(layout.dead_letters) else []
    parts = [part for part in parts if not part.endswith(TEMPORARY)]
    if parts:
        with replacing(target) as merged:
            for part in sorted(parts):
                with FileSystems.open(part) as stream:
                    merged.write(stream.read())
        FileSystems.delete([layout.dead_letters])
    elif FileSystems.exists(layout.dead_letters):
        FileSystems.delete([layout.dead_letters])
