"""The DoFns of the examples job: Beam around the column functions."""

from __future__ import annotations

import json
import logging
import uuid
import zoneinfo
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from beam_jobs import snapshot as snapshots
from beam_jobs.columns import concat, fill_missing, from_ipc, hashes, mix, single, to_ipc
from beam_jobs.config import DataConfig
from beam_jobs.encode import encode, shard_batches, write_records
from beam_jobs.events import ORIGIN, REASON, Bounds, Origin, clean_events
from beam_jobs.files import replacing
from beam_jobs.negatives import add_negatives
from beam_jobs.normalise import event_schema, local_days, normalise, row_to_json
from beam_jobs.prior import read_prior
from beam_jobs.reading import BATCH_ROWS, RawFile, log_columns, read_batches
from beam_jobs.side import KEY, empty_side, read_side
from schemas import features
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import FileFormat, Negatives

# What crosses the shuffle: the kind of a table and the table, serialised.
Part = tuple[str, bytes]
Shard = dict[str, bytes]

LOG, HISTORY, KNOWN, USERS = "log", "history", "known", "users"

_SUMMARY = "summary.json"

_progress = logging.getLogger("lengthwise.progress")


@dataclass(frozen=True)
class Layout:
    """Where a run writes.

    Attributes:
        output: folder of the examples.
        snapshot: folder of the new snapshot, if one is written.
    """

    output: str
    snapshot: str | None

    @property
    def dead_letters(self) -> str:
        """Folder of the dead letters, a file for each piece of work that had any."""
        return FileSystems.join(self.output, "dead_letter")

    def make_folders(self) -> None:
        """Makes the folders that are not there."""
        for folder in self.folders():
            if not FileSystems.exists(folder):
                FileSystems.mkdirs(folder)

    def folders(self) -> list[str]:
        """All folders that files are written into."""
        folders = [self.split_folder(split) for split in features.SPLITS]
        return [*folders, self.dead_letters, *([self.snapshot] if self.snapshot else [])]

    def split_folder(self, split: str) -> str:
        """Folder of a split, as TFX lays out Examples artifacts."""
        return FileSystems.join(self.output, f"Split-{split}")

    def write_dead_letters(self, name: str, rejected: list[tuple[str, str]]) -> None:
        """Writes rejected rows as JSON lines of reason and row; a retry overwrites them."""
        if not rejected:
            return
        lines = "".join(f'{{"reason": {json.dumps(r)}, "row": {row}}}\n' for r, row in rejected)
        path = FileSystems.join(self.dead_letters, f"{name}.jsonl")
        with replacing(path) as stream:
            stream.write(lines.encode())

    def write_summary(
        self, counts: Counter[str], bounds: Bounds, last_time: int, item_counts: bytes
    ) -> None:
        """Writes what the whole run counted, for the process that started it."""
        if self.snapshot is not None:
            snapshots.write_parquet(
                from_ipc(item_counts), FileSystems.join(self.snapshot, "items.parquet")
            )
        values = {"counts": dict(counts), "bounds": asdict(bounds), "last_time": last_time}
        with replacing(FileSystems.join(self.output, _SUMMARY)) as stream:
            stream.write(json.dumps(values).encode())

    def read_summary(self) -> tuple[Counter[str], Bounds, int]:
        """Reads and removes what :meth:`write_summary` wrote."""
        path = FileSystems.join(self.output, _SUMMARY)
        with FileSystems.open(path) as stream:
            values = json.loads(stream.read())
        FileSystems.delete([path])
        return Counter(values["counts"]), Bounds(**values["bounds"]), values["last_time"]


class ReadLog(beam.DoFn):
    """Reads a log file and yields its events by shard of users."""

    COUNTS = "counts"
    DAYS = "days"

    def __init__(self, description: DatasetDescription, shards: int, layout: Layout):
        self._description = description
        self._shards = shards
        self._layout = layout

    def process(self, file: RawFile) -> Iterator[Any]:
        zone = zoneinfo.ZoneInfo(self._description.log.timezone)
        bad_lines: list[str] = []
        name = uuid.uuid5(uuid.NAMESPACE_URL, file.path).hex
        batches = read_batches(file, log_columns(self._description), bad_lines)
        for number, raw in enumerate(batches):
            result = normalise(raw, self._description)
            self._layout.write_dead_letters(f"read-{name}-{number:06d}", result.rejected)
            yield TaggedOutput(self.COUNTS, result.counts)
            days, rows = np.unique(
                local_days(np.asarray(result.events.column("time")), zone), return_counts=True
            )
            by_day = dict(zip(days.tolist(), rows.tolist(), strict=True))
            yield TaggedOutput(self.DAYS, Counter(by_day))
            yield from by_shard(result.events, "user", LOG, self._shards)
        if bad_lines:
            is_json = file.format is FileFormat.JSONL
            reason = "line: no JSON object" if is_json else "line: wrong number of columns"
            self._layout.write_dead_letters(
                f"lines-{name}", [(reason, json.dumps(line)) for line in bad_lines]
            )
            counts = {"rows_read": len(bad_lines), f"rejected:{reason}": len(bad_lines)}
            yield TaggedOutput(self.COUNTS, Counter(counts))


class ReadUsers(beam.DoFn):
    """Reads the side files of users and yields their rows by shard."""

    COUNTS = "counts"

    def __init__(self, description: DatasetDescription, config: DataConfig):
        self._description = description
        self._config = config

    def process(self, files: list[RawFile]) -> Iterator[Any]:
        side, kind = self._description.side.user, self._description.user.type
        if side is not None:
            table, counts = read_side(files, side, kind, self._config.max_rejected_share)
            yield TaggedOutput(self.COUNTS, counts)
            yield from by_shard(table, KEY, USERS, self._config.shards)


class ReadItems(beam.DoFn):
    """Reads the side files of items as one table for all shards."""

    COUNTS = "counts"

    def __init__(self, description: DatasetDescription, config: DataConfig):
        self._description = description
        self._config = config

    def process(self, files: list[RawFile]) -> Iterator[Any]:
        side, kind = self._description.side.item, self._description.item.type
        if side is None:
            yield to_ipc(empty_side((), kind))
            return
        table, counts = read_side(files, side, kind, self._config.max_rejected_share)
        yield TaggedOutput(self.COUNTS, counts)
        yield to_ipc(table)


class ReadPrior(beam.DoFn):
    """Reads the prior history and yields it by shard of users."""

    def __init__(self, description: DatasetDescription, config: DataConfig):
        self._description = description
        self._config = config

    def process(self, files: list[RawFile]) -> Iterator[tuple[int, Part]]:
        events, known = read_prior(files, self._description, self._config.history)
        yield from by_shard(events, "user", HISTORY, self._config.shards)
        yield from by_shard(known, "user", KNOWN, self._config.shards)


class ReadSnapshot(beam.DoFn):
    """Reads a history snapshot and yields it by shard of users."""

    ITEM_COUNTS = "item_counts"

    def __init__(self, description: DatasetDescription, shards: int):
        self._description = description
        self._shards = shards

    def process(self, folder: str) -> Iterator[Any]:
        for kind, pattern in ((HISTORY, "events"), (KNOWN, "known")):
            files = FileSystems.match([FileSystems.join(folder, f"{pattern}-*.parquet")])
            for metadata in files[0].metadata_list:
                yield from by_shard(_read_parquet(metadata.path), "user", kind, self._shards)
        items = _read_parquet(FileSystems.join(folder, "items.parquet"))
        yield TaggedOutput(self.ITEM_COUNTS, to_ipc(items))


class CleanShard(beam.DoFn):
    """Sorts and cleans the events of a shard."""

    COUNTS = "counts"
    LAST_TIME = "last_time"

    def __init__(self, description: DatasetDescription, layout: Layout):
        self._description = description
        self._layout = layout

    def process(self, element: tuple[int, Iterable[Part]], bounds: Bounds) -> Iterator[Any]:
        shard, parts = element
        tables: dict[str, list[bytes]] = defaultdict(list)
        for kind, data in parts:
            tables[kind].append(data)
        clean = clean_events(self._all_events(tables), bounds)
        # All rows of a log given twice, or of one older than the snapshot, are among them.
        for number, batch in enumerate(clean.rejected.to_batches(BATCH_ROWS)):
            rejected = [(row.pop(REASON), row_to_json(row)) for row in batch.to_pylist()]
            self._layout.write_dead_letters(f"clean-{shard:05d}-{number:06d}", rejected)
        yield TaggedOutput(self.COUNTS, clean.counts)
        time = np.asarray(clean.events.column("time"))
        from_log = np.asarray(clean.events.column(ORIGIN)) == Origin.LOG
        if from_log.any():
            yield TaggedOutput(self.LAST_TIME, int(time[from_log].max()))
        known_schema = snapshots.known_schema(self._description)
        users = empty_side(self._description.user_fields, self._description.user.type)
        yield (
            shard,
            {
                "events": to_ipc(clean.events),
                KNOWN: to_ipc(concat([to_ipc(known_schema.empty_table()), *tables[KNOWN]])),
                USERS: to_ipc(concat([to_ipc(users), *tables[USERS]])),
            },
        )

    def _all_events(self, tables: dict[str, list[bytes]]) -> pa.Table:
        schema = event_schema(self._description)
        log = concat([to_ipc(schema.empty_table()), *tables[LOG]])
        log = log.append_column(ORIGIN, _constant(Origin.LOG, log.num_rows))
        if not tables[HISTORY]:
            return log
        carried = concat(tables[HISTORY])
        for field in self._description.context:
            kind = schema.field(field.name).type
            empty = fill_missing(pa.nulls(carried.num_rows, kind), field.type)
            carried = carried.append_column(field.name, empty)
        carried = carried.append_column(ORIGIN, _constant(Origin.HISTORY, carried.num_rows))
        return pa.concat_tables([log, carried.cast(log.schema)]).combine_chunks()


class SampleNegatives(beam.DoFn):
    """Adds sampled negatives to a shard."""

    def __init__(self, negatives: Negatives):
        self._negatives = negatives

    def process(
        self, element: tuple[int, Shard], catalogue: bytes, bounds: Bounds
    ) -> Iterator[tuple[int, Shard]]:
        shard, tables = element
        events = add_negatives(
            concat([tables["events"]]), from_ipc(catalogue), self._negatives, bounds
        )
        yield shard, {**tables, "events": to_ipc(events)}


class CountItems(beam.DoFn):
    """Counts the training samples of a shard by item."""

    def process(self, element: tuple[int, Shard], bounds: Bounds) -> Iterator[bytes]:
        events = from_ipc(element[1]["events"])
        origin = np.asarray(events.column(ORIGIN))
        is_train = bounds.split_of(np.asarray(events.column("time"))) == 0
        train = events.filter(pa.array(is_train & (origin != Origin.HISTORY)))
        yield to_ipc(
            pa.table(
                {
                    "item": train.column("item"),
                    "samples": pa.array(np.ones(train.num_rows, np.int64)),
                    "positives": train.column("label").cast(pa.int64()),
                }
            )
        )


class WriteShard(beam.DoFn):
    """Writes the examples of a shard, and its part of the snapshot; yields counters."""

    def __init__(self, description: DatasetDescription, config: DataConfig, layout: Layout):
        self._description = description
        self._config = config
        self._layout = layout

    def process(
        self,
        element: tuple[int, Shard],
        bounds: Bounds,
        items: bytes,
        item_counts: bytes,
        last_time: int,
    ) -> Iterator[Counter[str]]:
        shard, tables = element
        events, known, users = (concat([tables[kind]]) for kind in ("events", KNOWN, USERS))
        batches = shard_batches(
            events,
            known,
            users,
            from_ipc(items),
            from_ipc(item_counts),
            bounds,
            self._description,
            self._config,
        )
        counts: Counter[str] = Counter()
        name = f"data_tfrecord-{shard:05d}-of-{self._config.shards:05d}"
        batch = next(batches, None)
        for split in features.SPLITS:
            # A split without rows has an empty file, so that it can be read all the same.
            with replacing(FileSystems.join(self._layout.split_folder(split), name)) as stream:
                while batch is not None and batch[0] == split:
                    write_records(encode(batch[1]), stream)
                    labels = np.asarray(single(batch[1].column(features.LABEL)).flatten())
                    counts[f"examples:{split}"] += len(labels)
                    counts[f"positives:{split}"] += int(labels.sum())
                    batch = next(batches, None)
        if self._layout.snapshot is not None:
            self._write_snapshot(shard, events, known, last_time)
        _progress.info(
            "examples", extra={"advance": 1, "total": self._config.shards, "unit": "shards"}
        )
        yield counts

    def _write_snapshot(
        self, shard: int, events: pa.Table, known: pa.Table, last_time: int
    ) -> None:
        carried, known = snapshots.carried_state(
            events, known, self._description, self._config.history, last_time
        )
        assert self._layout.snapshot is not None
        for name, table in (("events", carried), ("known", known)):
            path = FileSystems.join(self._layout.snapshot, f"{name}-{shard:05d}.parquet")
            snapshots.write_parquet(table, path)


def by_shard(
    table: pa.Table | pa.RecordBatch, key: str, kind: str, shards: int
) -> Iterator[tuple[int, Part]]:
    """Cuts a table into its rows for each shard of users."""
    if not table.num_rows:
        return
    shard = mix(hashes(single(table.column(key)))) % np.uint64(shards)
    order = np.argsort(shard, kind="stable")
    numbers, starts = np.unique(shard[order], return_index=True)
    taken = table.take(pa.array(order))
    for number, start, stop in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
        part = taken.slice(start, stop - start)
        part = part.combine_chunks() if isinstance(part, pa.Table) else part
        yield int(number), (kind, to_ipc(part))


def _constant(value: int, count: int) -> pa.Array:
    return pa.array(np.full(count, value, np.int8))


def _read_parquet(path: str) -> pa.Table:
    with FileSystems.open(path) as stream:
        return pa.parquet.read_table(stream)
