"""Runs the examples job on rows given in a test and reads back what it wrote."""

from __future__ import annotations

import csv
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.config import DataConfig
from beam_jobs.examples import ExamplesReport, run_examples
from beam_jobs.plan import make_plan, with_snapshot
from schemas.dataset import DatasetDescription
from schemas.loading import build

RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
SPLITS = ("train", "validation", "test")
DAY = 86_400_000
# 2024-03-04, a Monday, 00:00 UTC.
START = 1_709_510_400_000

ACTIONS = [
    {"name": "hate", "when": ["hated"]},
    {"name": "like", "when": ["liked", "shared"], "positive": True},
    {"name": "click", "when": ["clicked"], "positive": True},
    {"name": "exposure"},
    {"name": "seen", "prior_only": True},
]
LOG_TYPES = {
    "uid": pa.int64(),
    "iid": pa.int64(),
    "ts": pa.int64(),
    "clicked": pa.int64(),
    "liked": pa.int64(),
    "shared": pa.int64(),
    "hated": pa.int64(),
    "tab": pa.int64(),
    "price": pa.float64(),
}
USER_TYPES = {"uid": pa.int64(), "country": pa.string(), "age": pa.int64()}
ITEM_TYPES = {
    "iid": pa.int64(),
    "category": pa.int64(),
    "title": pa.string(),
    "weight": pa.float64(),
}
PRIOR_TYPES = {
    "uid": pa.int64(),
    "seen": pa.list_(pa.int64()),
    "clicks": pa.list_(pa.int64()),
    "likes": pa.list_(pa.int64()),
    "total": pa.int64(),
}


def describe(*, ids: str = "int", fmt: str = "parquet", **changes: Any) -> DatasetDescription:
    """A description with every kind of part; `changes` replace keys at the top."""
    values: dict[str, Any] = {
        "name": "tiny",
        "log": {"files": ["log*"], "format": fmt},
        "user": {"column": "uid", "type": ids},
        "item": {"column": "iid", "type": ids},
        "time": {"column": "ts", "unit": "ms", "years": [2024, 2024]},
        "label": {"column": "clicked"},
        "actions": ACTIONS,
        "outcomes": ["clicked", "liked", "shared", "hated"],
        "context": [
            {"name": "tab", "type": "int", "missing": [-124]},
            {"name": "price", "type": "float", "scale": "log1p"},
            {"name": "hour", "type": "int", "derive": "hour_of_day"},
            {"name": "weekday", "type": "int", "derive": "day_of_week"},
        ],
        "side": {
            "user": {
                "files": ["users*"],
                "format": fmt,
                "key": "uid",
                "fields": [
                    {"name": "country", "missing": ["UNKNOWN"]},
                    {"name": "age", "type": "int", "missing": [-124]},
                ],
            },
            "item": {
                "files": ["items*"],
                "format": fmt,
                "key": "iid",
                "fields": [
                    {"name": "category", "type": "int"},
                    {"name": "title"},
                    {"name": "weight", "type": "float"},
                ],
            },
        },
        "history_fields": ["category", "title"],
        "prior_history": {
            "files": ["prior*"],
            "key": "uid",
            "sequences": [
                {"column": "seen", "action": "seen"},
                {"column": "clicks", "action": "click", "label": 1},
                {"column": "likes", "action": "like", "label": 1},
            ],
            "total": "total",
            "required": False,
        },
        "split": {"validation_start": "2024-03-06", "test_start": "2024-03-07"},
    }
    return build(DatasetDescription, values | changes, where="test")


def configure(folder: Path | str = "unused", **changes: Any) -> DataConfig:
    """The ``data`` section of a run on a folder."""
    values = {"dataset": "tiny", "path": str(folder), "shards": 2, "max_rejected_share": 0.9}
    values |= {"length_edges": [1, 3], "density_edges": [1, 2, 5]}
    return build(DataConfig, values | changes, where="test")


def impression(uid: Any, iid: Any, ts: Any, clicked: Any = 0, **other: Any) -> dict[str, Any]:
    """A row of the log; ``ts`` is in milliseconds from `START` unless it is no number."""
    time = START + ts if isinstance(ts, int) else ts
    row = {"uid": uid, "iid": iid, "ts": time, "clicked": clicked}
    return row | {"liked": 0, "shared": 0, "hated": 0, "tab": 1, "price": 1.5} | other


def anchors(uid: Any = 900, iid: Any = 900) -> list[dict[str, Any]]:
    """Rows that give each split both classes."""
    return [
        impression(uid, iid, day * DAY + 1000 * label, label)
        for day in (1, 2, 3)
        for label in (0, 1)
    ]


def write_rows(
    path: Path, rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType], fmt: str
) -> None:
    """Writes rows as Parquet, CSV or JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if fmt == "parquet":
        columns = {name: pa.array([r[name] for r in rows], kind) for name, kind in types.items()}
        pq.write_table(pa.table(columns), path)
    elif fmt == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(types))
            writer.writeheader()
            writer.writerows({k: "" if r[k] is None else r[k] for k in types} for r in rows)
    else:
        # A key may be absent where there is no value, but not in every line.
        lines = [
            json.dumps({k: r[k] for k in types if r[k] is not None or not number})
            for number, r in enumerate(rows)
        ]
        path.write_text("".join(f"{line}\n" for line in lines))


def with_ids(types: Mapping[str, pa.DataType], ids: str) -> dict[str, pa.DataType]:
    """Column types with the identifiers as int or string."""
    kind = pa.string() if ids == "string" else pa.int64()
    changed = {name: kind for name in ("uid", "iid") if name in types}
    changed |= {name: pa.list_(kind) for name in types if pa.types.is_list(types[name])}
    return {**types, **changed}


def write_log(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    users: Sequence[Mapping[str, Any]] = (),
    items: Sequence[Mapping[str, Any]] = (),
    prior: Sequence[Mapping[str, Any]] = (),
    fmt: str = "parquet",
    ids: str = "int",
    files: int = 1,
) -> None:
    """Writes a data folder: the log in some files, the side files, the prior history."""
    for number in range(files):
        part = list(rows)[number::files]
        write_rows(folder / f"log-{number}.{fmt}", part, with_ids(LOG_TYPES, ids), fmt)
    write_rows(folder / f"users.{fmt}", users, with_ids(USER_TYPES, ids), fmt)
    write_rows(folder / f"items.{fmt}", items, with_ids(ITEM_TYPES, ids), fmt)
    if prior:
        write_rows(folder / "prior.parquet", prior, with_ids(PRIOR_TYPES, ids), "parquet")


def run_job(
    description: DatasetDescription,
    config: DataConfig,
    output: Path,
    *,
    snapshot: Path | None = None,
    snapshot_output: Path | None = None,
    fingerprint: str = "",
    failed_dead_letter: Path | None = None,
    flags: Sequence[str] = (RUNNER,),
) -> ExamplesReport:
    """Runs the job as the command line does."""
    plan = make_plan(config, description)
    if snapshot is not None:
        plan = with_snapshot(plan, str(snapshot))
    make: Callable[[], beam.Pipeline] = lambda: beam.Pipeline(  # noqa: E731
        options=PipelineOptions(list(flags))
    )
    return run_examples(
        plan,
        make,
        str(output),
        snapshot_output=None if snapshot_output is None else str(snapshot_output),
        fingerprint=fingerprint,
        failed_dead_letter=None if failed_dead_letter is None else str(failed_dead_letter),
    )


def records(output: Path, split: str) -> list[bytes]:
    """Reads the TFRecord files of a split, checking the framing."""
    result = []
    for path in sorted((output / f"Split-{split}").iterdir()):
        assert path.name.startswith("data_tfrecord-"), f"left over: {path}"
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            record = data[place + 12 : place + 12 + length]
            place += 12 + length + 4
            crc = google_crc32c.value(record)
            masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert data[place - 4 : place] == struct.pack("<I", masked)
            result.append(record)
    return result


def decode(record: bytes) -> dict[str, list[Any]]:
    """Reads one example as lists; bytes as text."""
    result = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        result[name] = [v.decode() if isinstance(v, bytes) else v for v in values]
    return result


def decoded(output: Path) -> dict[str, list[dict[str, list[Any]]]]:
    """Reads all examples of a run by split."""
    return {split: [decode(r) for r in records(output, split)] for split in SPLITS}


def as_multiset(examples: Sequence[Mapping[str, Sequence[Any]]]) -> Counter[tuple[Any, ...]]:
    """Examples without their order."""
    return Counter(tuple((k, *e[k]) for k in sorted(e)) for e in examples)


def all_records(output: Path) -> dict[str, list[bytes]]:
    """The bytes of all examples by split, sorted."""
    return {split: sorted(records(output, split)) for split in SPLITS}


def dead_letters(path: Path) -> Iterator[tuple[str, Any]]:
    """Reads a dead letter file: reason and row."""
    for line in path.read_text().splitlines():
        letter = json.loads(line)
        yield letter["reason"], letter["row"]
