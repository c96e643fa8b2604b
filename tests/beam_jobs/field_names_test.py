"""Fields may have the names that columns have on the way."""

from __future__ import annotations

from pathlib import Path

from tests.beam_jobs.job import (
    anchors,
    configure,
    dead_letters,
    decoded,
    describe,
    run_job,
    write_log,
)


def test_fields_are_not_taken_for_the_columns_of_the_job(tmp_path: Path) -> None:
    rows = anchors()
    items = [{"iid": 900, "category": 5, "title": "t", "weight": 1.0}]
    users = [{"uid": 900, "country": "CN", "age": 30}, {"uid": 30, "country": "DE", "age": 900}]
    write_log(tmp_path / "raw", [*rows, rows[0]], items=items, users=users)
    fields = [{"name": "key", "column": "category", "type": "int"}, {"name": "title"}]
    description = describe(
        context=[
            {"name": name, "column": "tab", "type": "int"} for name in ("origin", "reason", "row")
        ],
        side={
            "user": {
                "files": ["users*"],
                "format": "parquet",
                "key": "uid",
                "fields": [
                    {"name": "user", "column": "age", "type": "int"},
                    {"name": "known", "column": "country"},
                ],
            },
            "item": {"files": ["items*"], "format": "parquet", "key": "iid", "fields": fields},
        },
        history_fields=["key"],
    )
    run_job(description, configure(tmp_path / "raw"), tmp_path / "out")

    example = max(decoded(tmp_path / "out")["test"], key=lambda e: e["timestamp"])
    names = ("origin", "reason", "row", "user", "known", "key", "title")
    assert [example[name] for name in names] == [[1], [1], [1], [30], ["CN"], [5], ["t"]]
    assert example["history_key"] == [5] * 5
    ((reason, row),) = dead_letters(tmp_path / "out" / "dead_letter.jsonl")
    assert (reason, row["reason"], row["origin"]) == ("duplicate", 1, 1)
