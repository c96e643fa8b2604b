from __future__ import annotations

import zoneinfo
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.errors import InputError
from beam_jobs.histories import (
    ENTRIES_PER_CHUNK,
    chunks,
    history_windows,
    order_of_runs,
    window_indices,
)
from beam_jobs.normalise import day_start, local_days, normalise
from beam_jobs.prior import read_prior
from beam_jobs.reading import match_files, read_table
from beam_jobs.splits import resolve_bounds
from schemas.dataset_sections import FileFormat, Split
from tests.beam_jobs.job import (
    DAY,
    PRIOR_TYPES,
    START,
    configure,
    decoded,
    describe,
    impression,
    run_job,
    write_log,
    write_rows,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
HOUR = 3_600_000
EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.booleans()), min_size=1, max_size=30
)


@settings(max_examples=200)
@given(EVENTS, st.integers(1, 5), st.integers(0, 3))
def test_windows_hold_the_last_strictly_earlier_kept_events(
    events: list[tuple[int, int, bool]], max_length: int, known: int
) -> None:
    events = sorted(events, key=lambda e: e[:2])
    user, time, kept = (np.array(column) for column in zip(*events, strict=True))
    rows = np.arange(len(events))[::-1]
    windows = history_windows(user, time, kept, rows, max_length, np.full(len(events), known))
    offsets, indices = window_indices(windows.start, windows.length)

    numbers = np.flatnonzero(kept)
    for place, row in enumerate(rows):
        earlier = [
            i for i, e in enumerate(events)
            if e[2] and e[0] == events[row][0] and e[1] < events[row][1]
        ]  # fmt: skip
        found = numbers[indices[offsets[place] : offsets[place + 1]]]
        assert found.tolist() == earlier[-max_length:]
        assert windows.total[place] == len(earlier) + known


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3_000_000), max_size=20))
def test_chunks_cover_all_rows_once(lengths: list[int]) -> None:
    taken = [n for chunk in chunks(np.array(lengths, int)) for n in range(chunk.start, chunk.stop)]
    assert taken == list(range(len(lengths)))


def test_days_are_days_across_a_change_of_summer_time() -> None:
    # 2024-03-31 has 23 hours in Berlin and 2024-10-27 has 25.
    spring, autumn = 19813, 20023
    assert day_start(spring + 1, BERLIN) - day_start(spring, BERLIN) == 23 * HOUR
    assert day_start(autumn + 1, BERLIN) - day_start(autumn, BERLIN) == 25 * HOUR
    for day in (spring, autumn):
        edges = np.array([day_start(day, BERLIN), day_start(day + 1, BERLIN)])
        assert local_days(edges, BERLIN).tolist() == [day, day + 1]
        assert local_days(edges - 1, BERLIN).tolist() == [day - 1, day]
    bounds = resolve_bounds(Split(validation="1d", test="1d"), BERLIN, {spring: 5})
    assert bounds.end == day_start(spring + 1, BERLIN)
    assert bounds.test_start == day_start(spring, BERLIN)
    assert bounds.validation_start == day_start(spring - 1, BERLIN)


def test_a_clock_that_jumped_ahead_does_not_end_the_log() -> None:
    split = Split(validation="1d", test="1d")
    bounds = resolve_bounds(split, BERLIN, {100: 5_000, 101: 5_000, 400: 1})
    assert bounds.end == day_start(102, BERLIN)


@pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_are_instants_whatever_their_unit(unit: str, zone: str | None) -> None:
    rows = [impression(1, 1, 5_000, 1)]
    columns = {k: [r[k] for r in rows] for k in rows[0]}
    columns["ts"] = pa.array([START + 5_000], pa.timestamp("ms")).cast(pa.timestamp(unit, zone))
    result = normalise(pa.record_batch(columns), describe())
    assert result.events.column("time").to_pylist() == [START + 5_000]
    assert result.events.column("hour").to_pylist() == [0]


def test_a_prior_history_without_a_total_counts_what_was_cut(tmp_path: Path) -> None:
    far = 2**62
    rows = [
        {"uid": 1, "seen": [5, far, 6, 5], "clicks": [far], "likes": [-5], "total": None},
        {"uid": 2, "seen": [far - 1], "clicks": None, "likes": [], "total": None},
    ]
    write_rows(tmp_path / "prior.parquet", rows, PRIOR_TYPES, "parquet")
    files = match_files(str(tmp_path), ("prior*",), FileFormat.PARQUET)
    events, known = read_prior(files, describe(), configure(history={"max_length": 2}).history)
    found = list(
        zip(*(events.column(c).to_pylist() for c in ("user", "item", "action")), strict=True)
    )
    # Five events of user 1 (the like lies before the base), of which two are carried.
    assert found == [(1, 6, 5), (1, 5, 5), (2, far - 1, 5)]
    assert known.to_pydict() == {"user": [1, 2], "known": [3, 0]}


@pytest.mark.parametrize("rows", [0, 2])
def test_a_prior_history_of_nothing_gives_no_events(tmp_path: Path, rows: int) -> None:
    columns = {"uid": pa.array(range(rows), pa.int64()), "seen": pa.nulls(rows)}
    columns |= {name: pa.nulls(rows, PRIOR_TYPES[name]) for name in ("clicks", "likes", "total")}
    pq.write_table(pa.table(columns), tmp_path / "prior.parquet")
    files = match_files(str(tmp_path), ("prior*",), FileFormat.PARQUET)
    events, known = read_prior(files, describe(), configure().history)
    assert events.num_rows == 0
    assert known.to_pydict() == {"user": list(range(rows)), "known": [0] * rows}


def test_parquet_side_files_of_different_widths_are_read_as_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "x1")
    pq.write_table(pa.table({"a": pa.array([2], pa.int64())}), tmp_path / "x2")
    files = match_files(str(tmp_path), ("x*",), FileFormat.PARQUET)
    assert read_table(files, ["a"]).column("a").to_pylist() == [1, 2]
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "x3")
    files = match_files(str(tmp_path), ("x*",), FileFormat.PARQUET)
    with pytest.raises(InputError, match="x3: columns of different types"):
        read_table(files, ["a"])


def test_runs_of_one_are_in_the_order_of_the_keys() -> None:
    key = np.array([5, 1, 4, 1, 3])
    order = order_of_runs(np.zeros(5, int), key, 1)
    np.testing.assert_array_equal(order, np.argsort(key, kind="stable"))


def test_runs_stay_together_in_order_of_time_and_of_their_first_rows_key() -> None:
    user = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    key = np.array([7, 0, 5, 0, 1, 6, 5, 0])
    # Runs [0, 1], [2, 3], [4] of one user, [5] of another, [6, 7] of the last, by 7, 5, 1, 6, 5.
    assert order_of_runs(user, key, 2).tolist() == [4, 2, 3, 6, 7, 5, 0, 1]


def test_no_rows_have_no_order() -> None:
    assert order_of_runs(np.zeros(0, int), np.zeros(0, int), 3).tolist() == []


def test_a_user_of_very_many_events_is_cut_in_chunks() -> None:
    count, length = 100_000, 1_000
    moments = np.arange(count, dtype=np.int64)
    windows = history_windows(
        np.zeros(count, np.int64),
        moments,
        np.ones(count, bool),
        np.arange(count),
        length,
        np.zeros(count, np.int64),
    )
    assert windows.length.max() == length
    seen = 0
    for chunk in chunks(windows.length):
        assert windows.length[chunk].sum() <= ENTRIES_PER_CHUNK
        assert chunk.start == seen
        seen = chunk.stop
    assert seen == count


def test_a_user_of_many_events_in_the_whole_job(tmp_path: Path) -> None:
    rows = [impression(7, n % 50, (1 + n % 3) * DAY + n, n % 2) for n in range(9_000)]
    write_log(tmp_path / "raw", rows)
    report = run_job(
        describe(history_fields=[]),
        configure(tmp_path / "raw", history={"max_length": 1_000}),
        tmp_path / "out",
    )
    assert report.examples == {"train": 3_000, "validation": 3_000, "test": 3_000}
    last = max(decoded(tmp_path / "out")["test"], key=lambda e: e["timestamp"][0])
    assert last["history_length"] == [1_000]
    assert last["history_length_total"] == [8_999]
