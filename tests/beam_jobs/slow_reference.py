"""The examples job once more, slowly: plain lists and dicts, one row at a time.

Written from the documents, not from `beam_jobs`, and shares no code with it but the dataclasses
of configuration and description. Values of raw rows are Python values as a typed file holds
them. Sampled negatives are left out: they are tested by their properties.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beam_jobs.config import DataConfig
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import Derived, Field, FieldType, Split

Row = Mapping[str, Any]
Example = dict[str, list[Any]]

MISSING = {FieldType.INT: -1, FieldType.STRING: "", FieldType.FLOAT: None}


@dataclass
class Event:
    """One event of a history, and of the log if it has a row."""

    user: Any
    item: Any
    label: int | None
    action: int
    time: int | None
    context: dict[str, Any] = field(default_factory=dict)


@dataclass
class Reference:
    """What the job must come to: examples by split, and how many rows it puts aside and why."""

    examples: dict[str, list[Example]]
    rejected: Counter[str]
    last_time: int


def reference(
    rows: Sequence[Row],
    description: DatasetDescription,
    config: DataConfig,
    *,
    users: Sequence[Row] = (),
    items: Sequence[Row] = (),
    prior: Sequence[Row] = (),
) -> Reference:
    """Computes the examples of a log from its raw rows."""
    rejected: Counter[str] = Counter()
    zone = zoneinfo.ZoneInfo(description.log.timezone)
    parsed = [event for row in rows if (event := parse(row, description, zone, rejected))]
    cuts = cut_times(config.split or description.split, zone, parsed)
    events = without_duplicates([e for e in parsed if e.time < cuts["end"]], rejected)
    rejected["after_end"] += sum(e.time >= cuts["end"] for e in parsed)

    before, totals = prior_events(prior, description)
    by_user: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        by_user[event.user].append(event)
    samples = Counter(e.item for e in events if split_of(e.time, cuts) == "train")
    user_fields = side_fields(users, description.side.user, description.user.type)
    item_fields = side_fields(items, description.side.item, description.item.type)

    examples: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for event in events:
        split = split_of(event.time, cuts)
        if split is None:
            continue
        until = event.time
        if config.history.freshness.value == "day":
            day = datetime.datetime.fromtimestamp(event.time / 1000, zone).date()
            midnight = datetime.datetime.combine(day, datetime.time(), zone)
            until = int(midnight.timestamp() * 1000)
        earlier = [e for e in by_user[event.user] if e.time < until]
        old = [e for e in before.get(event.user, []) if is_kept(e, description, config)]
        new = [e for e in earlier if is_kept(e, description, config)]
        known = max(totals.get(event.user, 0), len(old)) + len(new)
        history = (old + new)[-config.history.max_length :]
        example: Example = {
            "label": [event.label],
            "user_id": [event.user],
            "item_id": [event.item],
            "timestamp": [event.time],
            "history_item_id": [e.item for e in history],
            "history_action": [e.action for e in history],
            "history_length": [len(history)],
            "history_length_total": [known],
            "item_train_count": [samples[event.item]],
            "length_bucket": [bucket(len(history), config.length_edges)],
            "density_bucket": [bucket(samples[event.item], config.density_edges)],
        }
        unknown_user = {f.name: MISSING[f.type] for f in description.user_fields}
        unknown_item = {f.name: MISSING[f.type] for f in description.item_fields}
        joined = {
            **event.context,
            **user_fields.get(event.user, unknown_user),
            **item_fields.get(event.item, unknown_item),
        }
        for name, value in joined.items():
            example[name] = [] if value is None else [value]
        for name in description.history_fields:
            example[f"history_{name}"] = [
                item_fields.get(e.item, unknown_item)[name] for e in history
            ]
        examples[split].append(example)
    last_time = max(e.time for e in events)
    return Reference(examples, +rejected, last_time)


def parse(
    row: Row, description: DatasetDescription, zone: zoneinfo.ZoneInfo, rejected: Counter[str]
) -> Event | None:
    """Turns a raw row into an event, or counts why not."""
    user = value_of(row[description.user.column], description.user.type)
    item = value_of(row[description.item.column], description.item.type)
    item = None if item == MISSING[FieldType.INT] else item
    time = value_of(row[description.time.column], FieldType.INT)
    if time is not None:
        time = time * {"s": 1000, "ms": 1, "us": 1}[description.time.unit.value]
        if description.time.unit.value == "us":
            time //= 1000
    label = value_of(row[description.label.column], FieldType.INT)
    if user is None or item is None or time is None:
        rejected["user" if user is None else "item" if item is None else "time"] += 1
        return None
    first, last = description.time.years
    if not first <= datetime.datetime.fromtimestamp(time / 1000, datetime.UTC).year <= last:
        rejected["time"] += 1
        return None
    if label not in (0, 1):
        rejected["label"] += 1
        return None
    action = next(
        number
        for number, kind in enumerate(description.actions, start=1)
        if not kind.prior_only
        and (not kind.when or any((row[column] or 0) > 0 for column in kind.when))
    )
    local = datetime.datetime.fromtimestamp(time / 1000, zone)
    context = {}
    for item_ in description.context:
        if item_.derive is Derived.HOUR_OF_DAY:
            context[item_.name] = local.hour
        elif item_.derive is Derived.DAY_OF_WEEK:
            context[item_.name] = local.weekday()
        else:
            context[item_.name] = field_value(row[item_.source], item_)
    return Event(user, item, label, action, time, context)


def value_of(value: Any, kind: FieldType) -> Any:
    """Reads one raw value as a type; None where it is missing or no such value."""
    if value is None or value == "":
        return None
    try:
        if kind is FieldType.STRING:
            return str(value)
        if kind is FieldType.INT:
            return int(value) if float(value) == int(value) else None
        return float(np.float32(value)) if np.isfinite(np.float32(value)) else None
    except (ValueError, OverflowError):
        return None


def field_value(value: Any, item: Field) -> Any:
    """Reads the value of a field; a missing one is -1, "" or no number."""
    found = value_of(value, item.type)
    if found is None or found in item.missing:
        return MISSING[item.type]
    return found


def cut_times(
    split: Split, zone: zoneinfo.ZoneInfo, events: Sequence[Event]
) -> dict[str, int | float]:
    """Works out the cuts, in milliseconds; every day of a small log counts as a full day."""
    days = [datetime.datetime.fromtimestamp(e.time / 1000, zone).date() for e in events]
    after = max(days) + datetime.timedelta(days=1)
    end = datetime.datetime(after.year, after.month, after.day, tzinfo=zone)

    def date(text: str) -> float:
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp() * 1000

    def step(text: str) -> datetime.timedelta:
        unit = {"d": "days", "h": "hours", "m": "minutes"}[text[-1]]
        return datetime.timedelta(**{unit: int(text[:-1])})

    if split.validation_start is not None and split.test_start is not None:
        cuts = {
            "train": float("-inf") if split.train_start is None else date(split.train_start),
            "validation": date(split.validation_start),
            "test": date(split.test_start),
            "end": end.timestamp() * 1000,
        }
        if split.end is not None:
            cuts["end"] = min(cuts["end"], date(split.end))
        return cuts
    assert split.test is not None
    assert split.validation is not None
    test = end - step(split.test)
    validation = test - step(split.validation)
    train = None if split.train is None else validation - step(split.train)
    return {
        "train": float("-inf") if train is None else train.timestamp() * 1000,
        "validation": validation.timestamp() * 1000,
        "test": test.timestamp() * 1000,
        "end": end.timestamp() * 1000,
    }


def split_of(time: int, cuts: Mapping[str, int | float]) -> str | None:
    """Returns the split that a time lies in."""
    if time >= cuts["test"]:
        return "test"
    if time >= cuts["validation"]:
        return "validation"
    return "train" if time >= cuts["train"] else None


def without_duplicates(events: Sequence[Event], rejected: Counter[str]) -> list[Event]:
    """Sorts events and keeps one of each user, item, time and label."""
    result: list[Event] = []
    for event in sorted(events, key=order):
        same = (event.user, event.item, event.time, event.label)
        if result and same == (
            result[-1].user,
            result[-1].item,
            result[-1].time,
            result[-1].label,
        ):
            rejected["duplicate"] += 1
        else:
            result.append(event)
    return result


def order(event: Event) -> tuple[Any, ...]:
    """Time first, item at equal times; the rest only settles which duplicate stays."""
    rest = [float("-inf") if v is None else v for v in event.context.values()]
    return (event.user, event.time, event.item, event.label, event.action, *rest)


def is_kept(event: Event, description: DatasetDescription, config: DataConfig) -> bool:
    """Says whether the protocol keeps an event in histories."""
    protocol = config.history.protocol.value
    if protocol == "click_only":
        return event.label == 1
    if protocol == "positive_only":
        return description.actions[event.action - 1].positive
    return True


def prior_events(
    rows: Sequence[Row], description: DatasetDescription
) -> tuple[dict[Any, list[Event]], dict[Any, int]]:
    """Reads prior histories: each user's events in order, and the true number of them."""
    prior = description.prior_history
    events: dict[Any, list[Event]] = {}
    totals: dict[Any, int] = {}
    if prior is None:
        return events, totals
    names = [action.name for action in description.actions]
    for row in rows:
        user = row[prior.key]
        lists = [row[sequence.column] or [] for sequence in prior.sequences]
        ordered = []
        for rank in range(len(lists) - 1, -1, -1):
            for item in lists[rank]:
                holders = [r for r in range(len(lists)) if item in lists[r]]
                # An item of the base stands at its place there, any other at its strongest.
                if rank == (0 if 0 in holders else max(holders)):
                    kind = prior.sequences[max(holders)]
                    action = names.index(kind.action) + 1
                    ordered.append(Event(user, item, kind.label, action, None))
        events[user] = ordered
        if prior.total is not None and row[prior.total] is not None:
            totals[user] = row[prior.total]
    return events, totals


def side_fields(rows: Sequence[Row], side: Any, key_type: FieldType) -> dict[Any, dict[str, Any]]:
    """Reads side rows; of several for one key the last counts."""
    table: dict[Any, dict[str, Any]] = {}
    if side is None:
        return table
    for row in rows:
        key = value_of(row[side.key], key_type)
        if key is not None:
            table[key] = {item.name: field_value(row[item.source], item) for item in side.fields}
    return table


def bucket(value: int, edges: Sequence[int]) -> str:
    """Names the bucket of a value, such as ``10-19``."""
    low, high = 0, None
    for edge in edges:
        if value >= edge:
            low = edge
        elif high is None:
            high = edge
    if high is None:
        return f"{low}+"
    return str(low) if high == low + 1 else f"{low}-{high - 1}"
