"""Cuts in time: absolute dates, or durations back from the end of the last day."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Mapping

from beam_jobs.errors import InputError
from beam_jobs.events import Bounds
from beam_jobs.normalise import day_start
from schemas.dataset_sections import Split

# A day with fewer rows than this share of the busiest day's does not end the log: a clock
# that jumped ahead would otherwise decide the split, and make every later row of other users
# late for the next snapshot.
LAST_DAY_SHARE = 0.001
NO_TIME = -(2**62)

_DURATION = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def resolve_bounds(
    split: Split, zone: zoneinfo.ZoneInfo, day_counts: Mapping[int, int], late: int = NO_TIME
) -> Bounds:
    """Works out the cuts of a split.

    Args:
        split: the split by dates or durations.
        zone: time zone of the log.
        day_counts: rows of the log by local day (days since 1970-01-01), at least one day.
        late: rows before this time, in milliseconds, are late.

    Raises:
        InputError: the cuts are not in order.
    """
    busiest = max(day_counts.values())
    last_day = max(day for day, rows in day_counts.items() if rows >= busiest * LAST_DAY_SHARE)
    end = day_start(last_day + 1, zone)
    if split.validation_start is not None and split.test_start is not None:
        train = NO_TIME if split.train_start is None else _date(split.train_start, zone)
        validation = _date(split.validation_start, zone)
        test = _date(split.test_start, zone)
        end = min(end, _date(split.end, zone)) if split.end is not None else end
    else:
        test = _back(end, str(split.test), zone)
        validation = _back(test, str(split.validation), zone)
        train = NO_TIME if split.train is None else _back(validation, split.train, zone)
    if not train < validation < test:
        raise InputError(
            "split: train_start, validation_start and test_start must be in this order, "
            f"found {[show(train, zone), show(validation, zone), show(test, zone)]}"
        )
    return Bounds(train, validation, test, end, late)


def show(time: int, zone: zoneinfo.ZoneInfo) -> str:
    """Returns a time in milliseconds as local ISO 8601."""
    if time == NO_TIME:
        return "the first row"
    return datetime.datetime.fromtimestamp(time / 1000, zone).isoformat()


def check_split(split: Split, zone: zoneinfo.ZoneInfo) -> None:
    """Checks that the dates and durations of a split can be read.

    Raises:
        InputError: one of them cannot.
    """
    for date in (split.train_start, split.validation_start, split.test_start, split.end):
        if date is not None:
            _date(date, zone)
    for duration in (split.train, split.validation, split.test):
        if duration is not None:
            _duration(duration)


def _date(text: str, zone: zoneinfo.ZoneInfo) -> int:
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"split: {text!r} is no ISO 8601 date such as 2022-05-05") from error
    if date.tzinfo is None:
        date = date.replace(tzinfo=zone)
    return int(date.timestamp() * 1000)


def _duration(text: str) -> datetime.timedelta:
    match = _DURATION.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise InputError(f"split: {text!r} is no duration such as 1d, 6h or 30m")
    return datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})


def _back(time: int, duration: str, zone: zoneinfo.ZoneInfo) -> int:
    """Steps back on the wall clock, so that a day is a day across a change of summer time."""
    local = datetime.datetime.fromtimestamp(time / 1000, zone)
    return int((local - _duration(duration)).timestamp() * 1000)
