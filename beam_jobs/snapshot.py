"""History snapshots: what a run leaves behind so that the next day costs a day.

A snapshot is a folder:

====================  ======================================================================
``manifest.json``     what the snapshot was made with and its last time
``events-*.parquet``  the most recent kept events of each user, and all events at exactly the
                      last time, to know them as duplicates when they are seen again
``known-*.parquet``   per user, how many events are known beyond those
``items.parquet``     per item, training samples and how many of them are positive
====================  ======================================================================
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems

from beam_jobs.columns import ARROW_TYPES, ordinals
from beam_jobs.config import Freshness, HistoryConfig
from beam_jobs.errors import InputError
from beam_jobs.events import ORIGIN, Origin, kept_by_protocol, moments
from beam_jobs.files import content, replacing
from schemas.dataset import DatasetDescription
from schemas.loading import to_plain

MANIFEST = "manifest.json"
# Names the examples that were made with the snapshot.
EXAMPLES_OF = "examples.json"
# Marks a snapshot of a day that data validation has not taken, be it that it refused it or that the
# run was killed before; only that day itself may pass over it.
REFUSED = "refused"
FORMAT = 1
_FILES = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(EXAMPLES_OF)}|{REFUSED}|items\.parquet"
    r"|(events|known)-\d+\.parquet"
)
EVENT_COLUMNS = ["user", "item", "time", "label", "action"]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a snapshot was made with; a run that differs in it refuses the snapshot.

    Attributes:
        format: version of the layout.
        dataset: name of the dataset.
        protocol: history protocol.
        max_length: events kept a user.
        freshness: which of them an impression sees.
        columns: column and type of the user and item, column of the time and label.
        actions: the action types, in the order of their ids.
        last_time: time of the last event, in milliseconds.
        fingerprint: identifies the input that the snapshot was made from.
        parent: folder of the snapshot it was made on, if any.
    """

    format: int
    dataset: str
    protocol: str
    max_length: int
    columns: dict[str, str | None]
    actions: list[dict[str, Any]]
    last_time: int
    fingerprint: str
    parent: str | None
    # Not in the manifests of the versions that knew no other.
    freshness: str = Freshness.IMPRESSION.value


def make_manifest(
    description: DatasetDescription,
    history: HistoryConfig,
    *,
    last_time: int,
    fingerprint: str,
    parent: str | None,
) -> Manifest:
    """Returns the manifest of a snapshot made by this run."""
    return Manifest(
        format=FORMAT,
        dataset=description.name,
        protocol=history.protocol.value,
        max_length=history.max_length,
        columns={
            "user": f"{description.user.column} ({description.user.type.value})",
            "item": f"{description.item.column} ({description.item.type.value})",
            "time": description.time.column,
            "label": description.label.column,
        },
        actions=to_plain(description.actions),
        last_time=last_time,
        fingerprint=fingerprint,
        parent=parent,
        freshness=history.freshness.value,
    )


def read_manifest(folder: str) -> Manifest:
    """Reads the manifest of a snapshot.

    Raises:
        InputError: the folder holds no complete snapshot.
    """
    path = FileSystems.join(folder, MANIFEST)
    try:
        with FileSystems.open(path) as stream:
            values: dict[str, Any] = json.loads(stream.read())
        return Manifest(**values)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"data.snapshot: {folder} holds no readable snapshot ({error})") from error


def check_compatible(
    folder: str, found: Manifest, description: DatasetDescription, history: HistoryConfig
) -> None:
    """Checks that a run can go on from a snapshot.

    Raises:
        InputError: names every difference with both values.
    """
    wanted = make_manifest(
        description,
        history,
        last_time=found.last_time,
        fingerprint=found.fingerprint,
        parent=found.parent,
    )
    differences = [
        f"{field.name} is {getattr(found, field.name)!r}, "
        f"the run has {getattr(wanted, field.name)!r}"
        for field in dataclasses.fields(Manifest)
        if getattr(found, field.name) != getattr(wanted, field.name)
    ]
    if differences:
        raise InputError(
            f"data.snapshot: {folder} does not fit this run: {'; '.join(differences)}. "
            "Run with data.snapshot: none on the whole log, or with the settings it was made with"
        )


def check_replaceable(folder: str) -> None:
    """Checks that a new snapshot may take the place of what is in a folder.

    Raises:
        InputError: there is something else than an earlier snapshot, or one on an object store,
            where a folder cannot be replaced at once.
    """
    found = content(folder)
    strangers = [name for name in found if not _FILES.fullmatch(name)]
    if strangers or (found and MANIFEST not in found) or (found and "://" in folder):
        raise InputError(
            f"{folder}: the folder of the new snapshot holds other files, such as "
            f"{(strangers or found)[0]}; an empty one is accepted, and on this machine one with an "
            "earlier snapshot, which is replaced"
        )


def write_manifest(
    folder: str, manifest: Manifest, *, examples: str, unchecked: bool = False
) -> None:
    """Writes the manifest, without which a snapshot is not complete.

    Args:
        folder: of the snapshot.
        manifest: what it was made with.
        examples: folder of the examples that it was made with.
        unchecked: whether data validation has yet to take its day.
    """
    if unchecked:
        FileSystems.create(FileSystems.join(folder, REFUSED)).close()
    with replacing(FileSystems.join(folder, EXAMPLES_OF)) as stream:
        stream.write((json.dumps({"examples": examples}) + "\n").encode())
    with replacing(FileSystems.join(folder, MANIFEST)) as stream:
        stream.write((json.dumps(dataclasses.asdict(manifest), indent=2) + "\n").encode())


def carried_state(
    events: pa.Table,
    known: pa.Table,
    description: DatasetDescription,
    history: HistoryConfig,
    last_time: int,
) -> tuple[pa.Table, pa.Table]:
    """Cuts a shard's events to what the next run needs.

    That is each user's last ``max_length`` kept events before the moment of ``last_time``, since a
    row of the next log may be of that very moment and needs strictly earlier ones; the kept events
    of that moment; and all events at ``last_time``, kept or not, since the next log may hold them
    once more.

    Args:
        events: sorted events of the shard.
        known: ``user`` and ``known``: events older than those in ``events``.
        description: the dataset.
        history: what histories are made of.
        last_time: time of the last event of the whole run.

    Returns:
        The events to carry, and the new ``known``.
    """
    kept = kept_by_protocol(
        np.asarray(events.column("label")),
        np.asarray(events.column("action")),
        history.protocol,
        description,
    )
    kept |= np.asarray(events.column("time")) == last_time
    kept &= np.asarray(events.column(ORIGIN)) != Origin.NEGATIVE
    rows = events.filter(pa.array(kept)).select(EVENT_COLUMNS).combine_chunks()
    user = ordinals(rows.column("user"))
    moment = moments(np.asarray(rows.column("time")), history.freshness, description)
    earlier = moment < moments(np.array([last_time]), history.freshness, description)[0]
    is_last = np.append(user[1:] != user[:-1], True) if len(user) else np.zeros(0, bool)
    ends = np.flatnonzero(is_last)
    running = np.cumsum(earlier)
    at_end = running[ends][np.searchsorted(ends, np.arange(len(user)))] if len(user) else running
    carry = ~earlier | (at_end - running < history.max_length)

    dropped = rows.filter(pa.array(~carry)).group_by("user").aggregate([([], "count_all")])
    dropped = pa.table({"user": dropped.column("user"), "known": dropped.column("count_all")})
    counts = pa.concat_tables([known, dropped.cast(known.schema)])
    counts = counts.group_by("user").aggregate([("known", "sum")])
    counts = pa.table({"user": counts.column("user"), "known": counts.column("known_sum")})
    nonzero = pc.greater(counts.column("known"), 0)
    return rows.filter(pa.array(carry)), counts.filter(nonzero).sort_by("user")


def known_schema(description: DatasetDescription) -> pa.Schema:
    """Returns the schema of the ``known`` tables."""
    return pa.schema([("user", ARROW_TYPES[description.user.type]), ("known", pa.int64())])


def item_schema(description: DatasetDescription) -> pa.Schema:
    """Returns the schema of the item counts."""
    kind = ARROW_TYPES[description.item.type]
    return pa.schema([("item", kind), ("samples", pa.int64()), ("positives", pa.int64())])


def write_parquet(table: pa.Table, path: str) -> None:
    """Writes a table."""
    with replacing(path) as stream:
        pa.parquet.write_table(table, stream, compression="zstd")
