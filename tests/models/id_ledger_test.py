"""Tests of admission and expiry, against counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from models.config import ActionFusion
from models.id_ledger import (
    BEFORE_ALL_TIMES,
    MILLISECONDS_A_DAY,
    SCHEMA,
    IdCounts,
    count_ids,
    decide,
    last_time,
    merge,
    read_ledger,
    write_ledger,
)
from models.plan import FIELDS, Category, RankerPlan
from schemas import features
from schemas.dataset_sections import FieldType

PLAN = RankerPlan(
    item=Category(name=features.ITEM_ID, type=FieldType.INT),
    history_fields=(Category(name="brand", type=FieldType.STRING),),
    categories=(
        Category(name="surface", type=FieldType.STRING),
        Category(name="hour", type=FieldType.INT),
    ),
    numbers=(),
    fusion=ActionFusion.NONE,
    action_types=2,
    max_length=8,
    user=FieldType.INT,
    min_count=2,
)


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Decoded examples: each value is a list, and what a row leaves out is null."""
    types = {
        "timestamp": pa.int64(), "item_id": pa.int64(), "history_item_id": pa.int64(),
        "brand": pa.large_binary(), "history_brand": pa.large_binary(),
        "surface": pa.large_binary(), "hour": pa.int64(),
    }  # fmt: skip
    columns = {}
    for name, kind in types.items():
        values = [row.get(name) for row in rows]
        lists = [value if isinstance(value, list | None) else [value] for value in values]
        columns[name] = pa.array(lists, pa.large_list(kind))
    return pa.record_batch(columns)


def counted(rows: list[dict[str, Any]], after: int = BEFORE_ALL_TIMES) -> dict[Any, Any]:
    table = count_ids(batch(rows), PLAN, after=after)
    assert table.schema == SCHEMA
    return {
        (row["vocabulary"], row["id"]): (row["count"], row["last_seen"])
        for row in table.to_pylist()
    }


def ledger(*rows: tuple[str, int, float, bool]) -> pa.Table:
    """A ledger of items: id, count, day it was last seen, whether it was an entry."""
    names, counts, days, entries = zip(*rows, strict=True)
    return pa.table(
        [
            pa.array(["item_id"] * len(rows)),
            pa.array([name.encode() for name in names], pa.large_binary()),
            pa.array(counts),
            pa.array([int(day * MILLISECONDS_A_DAY) for day in days]),
            pa.array(entries),
        ],
        schema=SCHEMA,
    )


def test_ids_are_counted_wherever_an_example_holds_them() -> None:
    rows = [
        {"timestamp": 5, "item_id": 7, "history_item_id": [7, 9, 7], "brand": b"b",
         "history_brand": [b"b", b"", b"c"], "surface": b"feed", "hour": 3},
        {"timestamp": 8, "item_id": 9, "history_item_id": [], "brand": b"", "hour": -1},
    ]  # fmt: skip
    assert counted(rows) == {
        ("item_id", b"7"): (3, 5),
        ("item_id", b"9"): (2, 8),
        ("brand", b"b"): (2, 5),
        ("brand", b"c"): (1, 5),
        (FIELDS, b"surface=feed"): (1, 5),
        (FIELDS, b"hour=3"): (1, 5),
    }


def test_examples_up_to_the_earlier_run_are_not_counted_again() -> None:
    rows = [{"timestamp": time, "item_id": time} for time in (4, 5, 6)]
    assert counted(rows, after=5) == {("item_id", b"6"): (1, 6)}
    assert counted([]) == {}


def test_what_does_not_fit_on_a_line_is_left_out() -> None:
    rows = [{"timestamp": 1, "item_id": 1, "brand": b"two\nlines", "surface": b"a\rb"}]
    assert counted(rows) == {("item_id", b"1"): (1, 1)}


def test_of_several_values_of_a_field_the_first_counts() -> None:
    rows = [{"timestamp": 1, "item_id": 1, "surface": [b"first", b"second"]}]
    assert ("fields", b"surface=second") not in counted(rows)


def test_merging_adds_counts_and_keeps_the_last_time() -> None:
    one = ledger(("a", 2, 1, True), ("b", 1, 1, False))
    merged = merge([one, ledger(("a", 3, 0.5, False))])
    assert sorted(row["id"] + str(row["count"]).encode() for row in merged.to_pylist()) == [
        b"a5", b"b1"
    ]  # fmt: skip
    assert merged.sort_by("id").column("is_entry").to_pylist() == [True, False]
    assert last_time(merged) == MILLISECONDS_A_DAY
    assert last_time(merge([])) == BEFORE_ALL_TIMES


def test_admission_and_expiry_by_hand() -> None:
    known = ledger(
        ("kept", 9, 3.0, True),  # seven days before the end: just young enough
        ("old", 9, 2.9, True),
        ("old rare", 1, 2.9, False),
        ("grown", 2, 10.0, False),  # one occurrence of it yesterday, one today
        ("new", 4, 10.0, False),
        ("rare", 1, 10.0, False),
        ("withdrawn", 1, 9.0, True),  # vocabulary_min_count was 1 before
    )
    decision = decide(known, ["item_id"], min_count=2, expiry_days=7)
    assert decision.vocabularies["item_id"].to_pylist() == [b"kept", b"new", b"grown"]
    assert decision.counts["item_id"] == IdCounts(admitted=3, kept=1, new=2, expired=1, waiting=2)
    rows = {row["id"]: (row["count"], row["is_entry"]) for row in decision.ledger.to_pylist()}
    assert rows == {
        b"kept": (9, True), b"grown": (2, True), b"new": (4, True), b"rare": (1, False),
        b"withdrawn": (1, False),
    }  # fmt: skip


def test_days_one_by_one_end_like_all_at_once() -> None:
    days = [
        [{"timestamp": day * MILLISECONDS_A_DAY + n, "item_id": (day * n) % 5} for n in range(9)]
        for day in range(4)
    ]
    known = merge([])
    for rows in days:
        new = count_ids(batch(rows), PLAN, after=last_time(known))
        known = decide(merge([known, new]), ["item_id"], min_count=2, expiry_days=30).ledger
    everything = count_ids(batch([row for rows in days for row in rows]), PLAN, after=-1)
    at_once = decide(everything, ["item_id"], min_count=2, expiry_days=30)
    assert known == at_once.ledger
    # A day that is run again, or trained on again, changes nothing.
    again = count_ids(batch(days[-1]), PLAN, after=last_time(known))
    assert len(again) == 0


def test_an_id_that_comes_back_is_new() -> None:
    first = decide(ledger(("a", 5, 0, True), ("b", 5, 20, True)), ["item_id"],
                   min_count=2, expiry_days=7)  # fmt: skip
    assert first.counts["item_id"].expired == 1
    back = merge([first.ledger, ledger(("a", 1, 21, False))])
    second = decide(back, ["item_id"], min_count=2, expiry_days=7)
    assert second.vocabularies["item_id"].to_pylist() == [b"b"]
    assert second.counts["item_id"].waiting == 1


def test_order_of_files_does_not_matter_and_a_ledger_round_trips(tmp_path: Path) -> None:
    parts = [ledger(("a", 2, 1, False), ("b", 2, 1, False)), ledger(("c", 2, 1, False))]
    one = decide(merge(parts), ["item_id"], min_count=2, expiry_days=1)
    other = decide(merge(parts[::-1]), ["item_id"], min_count=2, expiry_days=1)
    assert one.vocabularies == other.vocabularies
    assert one.vocabularies["item_id"].to_pylist() == [b"a", b"b", b"c"]
    path = str(tmp_path / "ledger.parquet")
    write_ledger(one.ledger, path)
    assert read_ledger(path) == other.ledger == one.ledger


@pytest.mark.parametrize("name", ["item_id", FIELDS])
def test_a_vocabulary_without_ids_is_empty(name: str) -> None:
    decision = decide(merge([]), [name], min_count=1, expiry_days=1)
    assert len(decision.vocabularies[name]) == 0
    assert decision.counts[name] == IdCounts(admitted=0, kept=0, new=0, expired=0, waiting=0)
