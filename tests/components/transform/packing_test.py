"""Tests of packing: what is packed is what was there, and runs end where they must."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_jobs.encode import encode
from models.plan import USER_GROUP, WINDOW_END, WINDOW_START
from schemas import features
from tests.models.packed_rows import PackedRows, make_rows, to_batch

HISTORY = features.HISTORY_ITEM_ID


def unpacked(packed: pa.RecordBatch) -> list[dict[str, list[Any]]]:
    """The rows of packed examples, worked out one by one."""
    rows = []
    for record in packed.to_pylist():
        count = len(record[WINDOW_END])
        for index, window in enumerate(zip(record[WINDOW_START], record[WINDOW_END], strict=True)):
            row = {USER_GROUP: record[USER_GROUP]}
            for name, values in record.items():
                if name.startswith(features.HISTORY_PREFIX):
                    row[name] = values[slice(*window)]
                elif name not in (USER_GROUP, WINDOW_START, WINDOW_END):
                    width = len(values) // count
                    row[name] = values[index * width : (index + 1) * width]
            rows.append(row)
    return rows


def lives(rows: list[tuple[int, int, list[int]]]) -> PackedRows:
    """Rows of a user, the events known, and a history."""
    batch = to_batch(
        [
            {
                USER_GROUP: np.array([user]),
                HISTORY: np.array(history, np.int64),
                "label": np.ones(1, np.float32),
            }
            for user, _, history in rows
        ]
    )
    return PackedRows(batch, np.array([total for _, total, _ in rows]))


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_every_row_is_there_with_its_own_history(limit: int) -> None:
    rows = make_rows(30)
    packed = rows.packed(limit)
    assert unpacked(packed) == rows.batch.to_pylist()
    counts = [len(ends) for ends in packed.column(WINDOW_END).to_pylist()]
    assert max(counts) == min(limit, 9)


def test_shared_events_stand_once() -> None:
    packed = lives([(1, 3, [7, 8, 9]), (1, 4, [8, 9, 5]), (1, 4, [8, 9, 5])]).packed(20)
    assert packed.to_pylist() == [
        {
            WINDOW_START: [0, 1, 1], WINDOW_END: [3, 4, 4], USER_GROUP: [1],
            HISTORY: [7, 8, 9, 5], "label": [1.0, 1.0, 1.0],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([(1, 2, [7, 8]), (2, 2, [7, 8])], [1, 1]),  # another user
        ([(1, 2, [7, 8]), (1, 5, [8, 9])], [1, 1]),  # an event between the two is in neither
        ([(1, 2, [7, 8]), (1, 4, [8, 9])], [2]),  # none is: they only share nothing
        ([(1, 3, [7, 8]), (1, 2, [7, 8])], [1, 1]),  # out of order
        ([(1, 2, [7, 8]), (1, 3, [4, 8, 9])], [1, 1]),  # events disagree
        ([(1, -1, [7, 8]), (1, -1, [7, 8])], [1, 1]),  # no one knows where in the life they stand
        ([(1, 0, []), (1, 0, []), (1, 1, [3])], [3]),  # no events
    ],
)
def test_a_run_ends_where_histories_do_not_follow(
    rows: list[tuple[int, int, list[int]]], counts: list[int]
) -> None:
    packed = lives(rows).packed(20)
    assert [len(ends) for ends in packed.column(WINDOW_END).to_pylist()] == counts
    assert [row[HISTORY] for row in unpacked(packed)] == [history for _, _, history in rows]


def test_a_wrong_event_splits_its_own_run_only() -> None:
    good = [(1, 2, [7, 8]), (1, 3, [7, 8, 9])]
    wrong = [(2, 2, [7, 8]), (2, 3, [1, 8, 9])]
    packed = lives([*good, *wrong, *good]).packed(20)
    assert [len(ends) for ends in packed.column(WINDOW_END).to_pylist()] == [2, 1, 1, 2]


def test_twenty_long_histories_take_little_more_than_one() -> None:
    events = np.arange(300)
    rows = lives([(1, 280 + step, events[step : 280 + step].tolist()) for step in range(20)])
    sizes = [sum(map(len, encode(batch))) for batch in (rows.packed(20), rows.batch)]
    assert sizes[0] < 0.1 * sizes[1]
