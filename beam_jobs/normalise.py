"""Raw rows to events in contract columns; what cannot be used is put aside with a reason.

An event has the columns ``user``, ``item``, ``time`` (milliseconds), ``label``, ``action`` and
the context fields of the description by name.
"""

from __future__ import annotations

import datetime
import json
import math
import zoneinfo
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.columns import ARROW_TYPES, convert, fill_missing, plain
from beam_jobs.errors import InputError
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import Column, Derived, FieldType, TimeUnit
from schemas.features import MISSING_INT

DAY_MS = 86_400_000
UNKNOWN_LABEL = -1
_UNITS_PER_MS = {TimeUnit.SECONDS: (1000, 1), TimeUnit.MILLISECONDS: (1, 1)}
_UNITS_PER_MS[TimeUnit.MICROSECONDS] = (1, 1000)


@dataclass
class Normalised:
    """What became of one batch of raw rows.

    Attributes:
        events: the good rows in contract columns.
        rejected: reason and row of each bad one.
        counts: counters: ``rows_read``, ``rejected:<reason>``, ``dropped:<reason>``,
            ``invalid_values:<field>``.
    """

    events: pa.RecordBatch
    rejected: list[tuple[str, str]]
    counts: Counter[str] = field(default_factory=Counter)


def event_schema(description: DatasetDescription) -> pa.Schema:
    """Returns the Arrow schema of the events of a dataset."""
    return pa.schema(
        [
            ("user", ARROW_TYPES[description.user.type]),
            ("item", ARROW_TYPES[description.item.type]),
            ("time", pa.int64()),
            ("label", pa.int8()),
            ("action", pa.int8()),
            *[(item.name, ARROW_TYPES[item.type]) for item in description.context],
        ]
    )


def normalise(batch: pa.RecordBatch, description: DatasetDescription) -> Normalised:
    """Turns a batch of raw rows into events.

    Args:
        batch: the columns that ``reading.log_columns`` lists.
        description: the dataset.
    """
    counts: Counter[str] = Counter(rows_read=batch.num_rows)
    keep = np.ones(batch.num_rows, bool)
    for rule in description.drop:
        dropped = keep & _dropped(batch.column(rule.column), rule.below, rule.not_matching)
        counts[f"dropped:{rule.reason}"] += int(dropped.sum())
        keep &= ~dropped
    if not keep.all():
        batch = batch.filter(pa.array(keep))

    reasons = np.full(batch.num_rows, "", object)
    user = _identifier(batch, description.user, "user", reasons)
    item = _identifier(batch, description.item, "item", reasons)
    if description.item.type is FieldType.INT:
        # In histories it is padding: the event would vanish from them, but not from their length.
        known = pc.if_else(pc.equal(item, MISSING_INT), pa.scalar(None, item.type), item)
        stands_for = f"is {MISSING_INT}, which stands for no item"
        _mark(reasons, known, f"item: {description.item.column} {stands_for}")
    unit = description.time.unit
    time = _times(batch.column(description.time.column), unit)
    accepted = f"whole number of {unit.value} since 1970"
    _mark(reasons, time, f"time: {description.time.column} is no {accepted}")
    first, last = description.time.years
    low, high = _year_start(first), _year_start(last + 1)
    within = pc.and_(pc.greater_equal(time, low), pc.less(time, high))
    _mark(
        reasons,
        pc.if_else(within, time, pa.scalar(None, pa.int64())),
        f"time: {description.time.column} lies outside {first} to {last} (unit {unit.value})",
    )
    label = _labels(batch, description)
    _mark(reasons, label, f"label: {description.label.column} is not 0 or 1")

    columns = {"user": user, "item": item, "time": time, "label": label.cast(pa.int8())}
    columns["action"] = _actions(batch, description, counts)
    zone = zoneinfo.ZoneInfo(description.log.timezone)
    for context in description.context:
        if context.derive is not None:
            columns[context.name] = _derived(time, context.derive, zone)
            continue
        values, invalid = convert(batch.column(context.source), context.type, context.missing)
        counts[f"invalid_values:{context.name}"] += int(invalid.sum())
        columns[context.name] = fill_missing(values, context.type)

    good = reasons == ""
    events = pa.record_batch(
        [columns[name] for name in event_schema(description).names],
        schema=event_schema(description),
    )
    rejected: list[tuple[str, str]] = []
    if not good.all():
        events = events.filter(pa.array(good))
        bad = batch.filter(pa.array(~good)).to_pylist()
        rejected = [
            (reason, row_to_json(row)) for reason, row in zip(reasons[~good], bad, strict=True)
        ]
        counts.update(f"rejected:{reason}" for reason, _ in rejected)
    return Normalised(events, rejected, counts)


def invalid_value(
    batch: pa.RecordBatch, description: DatasetDescription, name: str
) -> tuple[str, Any] | None:
    """Finds a value that is not of the type that the description gives.

    Args:
        batch: raw rows.
        description: the dataset.
        name: a context field, or a column of flags.

    Returns:
        What would be accepted, and the first value that is not; None if there is none.
    """
    fields = {item.name: item for item in description.context}
    if name in fields:
        item = fields[name]
        column, accepted = batch.column(item.source), item.type.value
        _, invalid = convert(column, item.type, item.missing)
    else:
        column, accepted = batch.column(name), "flag (a number, true or false)"
        _, invalid = convert(_flags(column), FieldType.FLOAT)
    if not invalid.any():
        return None
    value = column[int(invalid.argmax())].as_py()
    return accepted, value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def check_drop_rules(description: DatasetDescription) -> None:
    """Checks that Arrow, whose regular expressions look neither ahead nor back, knows all patterns.

    Raises:
        InputError: it does not know one.
    """
    for rule in description.drop:
        try:
            _dropped(pa.array([""]), rule.below, rule.not_matching)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"drop {rule.reason!r}: not_matching {rule.not_matching!r}: {error}"
            ) from error


def row_to_json(row: dict[str, Any]) -> str:
    """Returns a row as JSON; what JSON has no word for becomes text."""
    plain = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(plain, default=_json_value, allow_nan=False)


def local_days(time: np.ndarray, zone: zoneinfo.ZoneInfo) -> np.ndarray:
    """Returns the number of the local day since 1970-01-01 of each time in milliseconds."""
    return (time + _offsets(time, zone)) // DAY_MS


def day_start(day: int, zone: zoneinfo.ZoneInfo) -> int:
    """Returns the time in milliseconds at which a local day begins."""
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))
    local = datetime.datetime.combine(date, datetime.time(), zone)
    return int(local.timestamp() * 1000)


def _identifier(batch: pa.RecordBatch, column: Column, what: str, reasons: np.ndarray) -> pa.Array:
    values, invalid = convert(batch.column(column.column), column.type)
    bad = ~np.asarray(values.is_valid()) & (reasons == "")
    name = f"{what}: {column.column}"
    reasons[bad & invalid] = f"{name} is not {column.type.value}"
    reasons[bad & ~invalid] = f"{name} is missing"
    return values


def _mark(reasons: np.ndarray, column: pa.Array, reason: str) -> None:
    bad = ~np.asarray(column.is_valid()) & (reasons == "")
    reasons[bad] = reason


def _dropped(column: pa.Array, below: float | None, not_matching: str | None) -> np.ndarray:
    if below is not None:
        numbers, _ = convert(column, FieldType.FLOAT)
        return np.asarray(pc.fill_null(pc.less(numbers, below), False))
    text, _ = convert(column, FieldType.STRING)
    matches = pc.match_substring_regex(text, f"^(?:{not_matching})$")
    return ~np.asarray(pc.fill_null(matches, False))


def _times(column: pa.Array, unit: TimeUnit) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    values, _ = convert(column, FieldType.INT)
    factor, divisor = _UNITS_PER_MS[unit]
    # Ten thousand years in the unit; beyond it the factor could overflow.
    limit = 10_000 * 366 * DAY_MS * divisor // factor
    sane = pc.less(pc.abs(values), limit)
    values = pc.if_else(sane, values, pa.scalar(None, pa.int64()))
    if factor != 1:
        return pc.multiply(values, factor)
    return pc.divide(values, divisor) if divisor != 1 else values


def _labels(batch: pa.RecordBatch, description: DatasetDescription) -> pa.Array:
    if description.label.column is None:
        return pa.array(np.ones(batch.num_rows, np.int8))
    values, _ = convert(_flags(batch.column(description.label.column)), FieldType.INT)
    valid = pc.is_in(values, value_set=pa.array([0, 1], pa.int64()))
    return pc.if_else(valid, values, pa.scalar(None, pa.int64()))


def _actions(
    batch: pa.RecordBatch, description: DatasetDescription, counts: Counter[str]
) -> pa.Array:
    flags = {}
    for column in description.action_columns:
        values, invalid = convert(_flags(batch.column(column)), FieldType.FLOAT)
        counts[f"invalid_values:{column}"] += int(invalid.sum())
        flags[column] = np.asarray(pc.fill_null(pc.greater(values, 0), False))
    result = np.zeros(batch.num_rows, np.int8)
    logged = [action for action in description.actions if not action.prior_only]
    for action in logged:
        holds = np.ones(batch.num_rows, bool)
        if action.when:
            holds = np.logical_or.reduce([flags[column] for column in action.when])
        result[(result == 0) & holds] = description.action_id(action.name)
    return pa.array(result)


def _flags(column: pa.Array) -> pa.Array:
    """Returns a column of flags with 1 and 0 for the texts true and false."""
    text = plain(column)
    if not (pa.types.is_string(text.type) or pa.types.is_large_string(text.type)):
        return column
    lower = pc.utf8_lower(text)
    for word, digit in (("true", "1"), ("false", "0")):
        text = pc.if_else(pc.equal(lower, word), pa.scalar(digit, text.type), text)
    return text


def _derived(time: pa.Array, derive: Derived, zone: zoneinfo.ZoneInfo) -> pa.Array:
    values = np.asarray(pc.fill_null(time, 0))
    local = values + _offsets(values, zone)
    if derive is Derived.HOUR_OF_DAY:
        return pa.array(local // 3_600_000 % 24)
    # 1970-01-01 was a Thursday; Monday is 0.
    return pa.array((local // DAY_MS + 3) % 7)


def _offsets(time: np.ndarray, zone: zoneinfo.ZoneInfo) -> np.ndarray:
    """Offset of local time from UTC in milliseconds, looked up once for each quarter hour."""
    quarters, inverse = np.unique(time // 900_000, return_inverse=True)
    offsets = [
        datetime.datetime.fromtimestamp(int(quarter) * 900, zone).utcoffset()
        for quarter in quarters
    ]
    return np.array([int(o.total_seconds() * 1000) if o else 0 for o in offsets], np.int64)[
        inverse
    ].reshape(time.shape)


def _year_start(year: int) -> int:
    return int(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)


def _json_value(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
