"""What is wrong with the input is said in one clear line, and nothing is left half done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_jobs.errors import InputError
from beam_jobs.plan import make_plan
from tests.beam_jobs.job import (
    DAY,
    LOG_TYPES,
    anchors,
    configure,
    dead_letters,
    decoded,
    describe,
    impression,
    run_job,
    write_log,
    write_rows,
)

STRICT = {"max_rejected_share": 0.1}


def fails(
    folder: Path,
    message: str,
    *,
    fmt: str = "parquet",
    kind: type[Exception] = InputError,
    **changes: Any,
) -> Exception:
    """Runs the job on ``raw`` and checks the error and that nothing but the dead letter is left."""
    older = folder / "snapshots" / "older"
    older.mkdir(parents=True)
    (older / "manifest.json").write_text("{}")
    before = {path.name for path in folder.iterdir()}
    config = configure(folder / "raw", **{**STRICT, **changes})
    with pytest.raises(kind, match=message) as error:
        run_job(
            describe(fmt=fmt),
            config,
            folder / "out",
            snapshot_output=folder / "snapshots" / "new",
            failed_dead_letter=folder / "failed.jsonl",
        )
    assert {path.name for path in folder.iterdir()} - before <= {"failed.jsonl"}
    assert [path.name for path in (folder / "snapshots").iterdir()] == ["older"]
    assert "\n" not in str(error.value)
    return error.value


def spoil(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    """The rows with some values in all of them replaced."""
    return [{**row, **values} for row in rows]


def in_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "ts": row["ts"] // 1000}


ROWS = [*anchors(), *(impression(user, 5, DAY + user) for user in range(5))]


def test_a_missing_folder_or_file_is_named(tmp_path: Path) -> None:
    fails(tmp_path, r"raw: no file matches log\*")


def test_a_folder_that_is_taken_for_a_pattern_is_told_as_such(tmp_path: Path) -> None:
    write_log(tmp_path / "raw[1]", ROWS)
    with pytest.raises(InputError, match=r"raw\[1\]: no file matches log\*; \*, \? and \["):
        make_plan(configure(tmp_path / "raw[1]"), describe())


def test_a_missing_side_file_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "raw" / "log-0.parquet", ROWS, LOG_TYPES, "parquet")
    fails(tmp_path, r"raw: no file matches users\*")


@pytest.mark.parametrize("name", ["log-0.parquet", "users.parquet"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    write_log(tmp_path / "raw", ROWS)
    (tmp_path / "raw" / name).write_bytes(b"")
    fails(tmp_path, rf"{name}: the file is empty")


@pytest.mark.parametrize("fmt", ["parquet", "csv"])
def test_a_log_without_rows_is_refused(tmp_path: Path, fmt: str) -> None:
    write_log(tmp_path / "raw", [], fmt=fmt)
    fails(tmp_path, "the log has no rows", fmt=fmt)


def test_a_log_of_which_every_row_is_dropped_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    description = describe(drop=[{"column": "price", "below": 99, "reason": "too cheap"}])
    with pytest.raises(InputError, match=r"none of 11 rows .*: 11 rows dropped: too cheap$"):
        run_job(description, configure(tmp_path / "raw"), tmp_path / "out")


def test_missing_columns_are_named_beside_those_there_are(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    types = {name: kind for name, kind in LOG_TYPES.items() if name not in ("tab", "liked")}
    write_rows(tmp_path / "raw" / "log-1.parquet", ROWS, types, "parquet")
    fails(tmp_path, r"log-1.parquet: columns \['liked', 'tab'\] of the log of 'tiny' are missing; "
                    r"the file has \['clicked', 'hated',")  # fmt: skip


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    (tmp_path / "raw" / "log-0.parquet").write_bytes(b"PAR1 and nothing else")
    fails(tmp_path, r"log-0.parquet: not readable as parquet")


def test_a_file_with_corrupt_pages_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    path = tmp_path / "raw" / "log-0.parquet"
    table = pa.table({k: pa.array([r[k] for r in ROWS * 500], t) for k, t in LOG_TYPES.items()})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[60:400] = b"\x00" * 340
    path.write_bytes(bytes(data))
    fails(tmp_path, r"log-0.parquet: not readable as parquet")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (spoil(ROWS, clicked=None), "label: clicked is not 0 or 1"),
        (spoil(ROWS, clicked=3), "label: clicked is not 0 or 1"),
        (spoil(ROWS, uid=None), "user: uid is missing"),
        (spoil(ROWS, ts=None), "time: ts is no whole number of ms since 1970"),
        ([in_seconds(row) for row in ROWS], r"time: ts lies outside 2024 to 2024 \(unit ms\)"),
    ],
)
def test_rows_that_cannot_be_used_are_counted_by_reason(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    write_log(tmp_path / "raw", rows)
    fails(
        tmp_path,
        rf"11 of 11 rows of the log cannot be used, more than .* allows: 11 rows: {message}",
    )
    letters = list(dead_letters(tmp_path / "failed.jsonl"))
    assert len(letters) == 11
    assert letters[0][1]["iid"] == 900


def test_the_id_that_stands_for_no_item_goes_to_the_dead_letter(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", [*ROWS, impression(1, -1, DAY, 1)])
    report = run_job(describe(), configure(tmp_path / "raw", **STRICT), tmp_path / "out")
    reason = "item: iid is -1, which stands for no item"
    assert report.counts[f"rejected:{reason}"] == 1
    ((found, row),) = dead_letters(tmp_path / "out" / "dead_letter.jsonl")
    assert (found, row["iid"]) == (reason, -1)


def test_a_carried_event_of_no_item_goes_to_the_dead_letter_too(tmp_path: Path) -> None:
    """From a prior history, and from a snapshot of a version that took such rows."""
    prior = [{"uid": 1, "seen": [5, -1, 6], "clicks": [], "likes": [], "total": 9}]
    rows = [*anchors(), impression(1, 7, 3 * DAY)]
    write_log(tmp_path / "raw", rows, prior=prior)
    first = run_job(
        describe(),
        configure(tmp_path / "raw", **STRICT),
        tmp_path / "out",
        snapshot_output=tmp_path / "snapshot",
    )
    (example,) = [e for e in decoded(tmp_path / "out")["test"] if e["user_id"] == [1]]
    assert example["history_item_id"] == [5, 6]
    assert example["history_length_total"] == [8]

    for path in (tmp_path / "snapshot").glob("events-*.parquet"):
        events = pq.read_table(path)
        place = events.schema.get_field_index("item")
        spoilt = pc.if_else(pc.equal(events.column("item"), 6), -1, events.column("item"))
        pq.write_table(events.set_column(place, "item", spoilt), path)
    later = [impression(user, 8, 4 * DAY, user) for user in (0, 1)]
    write_log(tmp_path / "next", later)
    second = run_job(
        describe(),
        configure(tmp_path / "next", **STRICT, allow_empty=["train", "validation"]),
        tmp_path / "out2",
        snapshot=tmp_path / "snapshot",
    )
    (example,) = [e for e in decoded(tmp_path / "out2")["test"] if e["user_id"] == [1]]
    assert example["history_item_id"] == [5, 7]

    reason = "item: a carried event has -1, which stands for no item"
    for report, output in ((first, "out"), (second, "out2")):
        assert report.counts[f"rejected:{reason}"] == 1
        ((found, row),) = dead_letters(tmp_path / output / "dead_letter.jsonl")
        assert (found, row["user"], row["item"]) == (reason, 1, -1)


def test_a_nan_label_goes_to_the_dead_letter(tmp_path: Path) -> None:
    types = {**LOG_TYPES, "clicked": pa.float64()}
    write_log(tmp_path / "raw", ROWS)
    rows = [*ROWS, impression(1, 2, DAY, float("nan"))]
    write_rows(tmp_path / "raw" / "log-0.parquet", rows, types, "parquet")
    report = run_job(describe(), configure(tmp_path / "raw", **STRICT), tmp_path / "out")
    assert report.counts["rejected:label: clicked is not 0 or 1"] == 1
    ((reason, row),) = dead_letters(tmp_path / "out" / "dead_letter.jsonl")
    assert (reason, row["iid"]) == ("label: clicked is not 0 or 1", 2)


def test_a_column_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    rows = spoil(ROWS, tab="left")
    write_rows(
        tmp_path / "raw" / "log-0.parquet", rows, {**LOG_TYPES, "tab": pa.string()}, "parquet"
    )
    fails(tmp_path, r"column 'tab': 11 of 11 values are no int, such as 'left', more than")


def test_a_side_column_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    (tmp_path / "raw" / "users.csv").write_text("uid,country,age\n1,CN,old\n2,CN,young\n")
    fails(
        tmp_path,
        r"users.csv: column 'age': 2 of 2 values are no int, such as 'old', more than "
        r"data.max_rejected_share \(0.1\) allows",
        fmt="csv",
    )


def test_side_keys_of_the_wrong_type_are_named(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    (tmp_path / "raw" / "users.csv").write_text("uid,country,age\n1,CN,3\nu2,CN,4\n")
    fails(tmp_path, r"users.csv: column 'uid': 1 of 2 values are no int, such as 'u2'", fmt="csv")


def test_side_values_without_a_meaning_are_missing_and_counted(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    (tmp_path / "raw" / "users.csv").write_text("uid,country,age\n900,CN,old\nu2,CN,4\n1,CN,5\n")
    (tmp_path / "raw" / "items.csv").write_text("iid,category,title,weight\n5,1,a,heavy\n6,2,b,1\n")
    report = run_job(describe(fmt="csv"), configure(tmp_path / "raw"), tmp_path / "out")
    counted = {key: n for key, n in report.counts.items() if key.startswith("invalid_values") and n}
    assert counted == {"invalid_values:age": 1, "invalid_values:uid": 1, "invalid_values:weight": 1}
    ages = {e["user_id"][0]: e["age"] for e in decoded(tmp_path / "out")["train"]}
    assert (ages[900], ages[1]) == ([-1], [5])


@pytest.mark.parametrize("label", [0, 1])
def test_a_log_of_one_class_is_refused(tmp_path: Path, label: int) -> None:
    write_log(tmp_path / "raw", spoil(ROWS, clicked=label))
    fails(tmp_path, rf"the train split has one class only: all \d+ labels are {label}")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_log(
        tmp_path / "raw", [row for row in ROWS if row["ts"] < impression(0, 0, 3 * DAY)["ts"]]
    )
    fails(
        tmp_path,
        r"the test split is empty: .* Rows by split: \{'train': .*; it reaches from "
        r"2024-03-07T00:00:00\+00:00 to 2024-03-07T00:00:00\+00:00, and the last event is of "
        r"2024-03-06T",
    )


def test_cuts_out_of_order_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    split = {
        "train_start": "2024-03-07",
        "validation_start": "2024-03-06",
        "test_start": "2024-03-08",
    }
    error = fails(tmp_path, "must be in this order, found ", split=split)
    # The whole message, though it was raised inside the runner.
    assert str(error).endswith("'2024-03-08T00:00:00+00:00']")


def test_a_pattern_that_arrow_does_not_know_is_named_before_the_run(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    description = describe(drop=[{"column": "tab", "not_matching": "(?!POST).*", "reason": "post"}])
    with pytest.raises(InputError, match=r"^drop 'post': not_matching '\(\?!POST\)\.\*': "):
        make_plan(configure(tmp_path / "raw"), description)


def test_malformed_lines_of_csv_go_to_the_dead_letter(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    with (tmp_path / "raw" / "log-0.csv").open("a") as stream:
        stream.write("1,2\n1,2,3,4,5,6,7,8,9,10,11\n")
    report = run_job(describe(fmt="csv"), configure(tmp_path / "raw"), tmp_path / "out")
    assert report.counts["rejected:line: wrong number of columns"] == 2
    assert report.counts["rows_read"] == 13
    letters = list(dead_letters(tmp_path / "out" / "dead_letter.jsonl"))
    assert letters[0] == ("line: wrong number of columns", "1,2")


def test_lines_that_are_no_json_go_to_the_dead_letter(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, users=[{"uid": 1, "country": None, "age": 3}], fmt="jsonl",
              items=[{"iid": 5, "category": 1, "title": "2024-05-05", "weight": None}])  # fmt: skip
    with (tmp_path / "raw" / "log-0.jsonl").open("a") as stream:
        stream.write('{"uid": 1, "iid"\n[1]\n')
    report = run_job(describe(fmt="jsonl"), configure(tmp_path / "raw"), tmp_path / "out")
    assert report.counts["rejected:line: no JSON object"] == 2
    # A text that looks like a time stays the text it is.
    titles = {e["title"][0] for e in decoded(tmp_path / "out")["train"] if e["item_id"] == [5]}
    assert titles == {"2024-05-05"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (b'"uid": "anonymous", "iid": 5, "clicked": 0', "user: uid is not int"),
        (b'"uid": 5.5, "iid": 5, "clicked": 0', "user: uid is not int"),
        (b'"uid": [1], "iid": 5, "clicked": 0', "user: uid is not int"),
        (b'"uid": 99999999999999999999, "iid": 5, "clicked": 0', "user: uid is not int"),
        (b'"uid": 5, "iid": "\\ud800", "clicked": 0', "item: iid is not int"),
        (b'"uid": 5, "iid": 5, "clicked": "maybe"', "label: clicked is not 0 or 1"),
        (b'"uid": 5, "iid": 5, "clicked": "\xff"', "line: no JSON object"),
    ],
)
def test_a_json_line_of_another_kind_spoils_itself_alone(
    tmp_path: Path, values: bytes, reason: str
) -> None:
    snowflake = 2**60 + 1
    rows = [*ROWS, impression(snowflake, 5, DAY)]
    write_log(tmp_path / "raw", rows, fmt="jsonl")
    with (tmp_path / "raw" / "log-0.jsonl").open("ab") as stream:
        stream.write(b'{"ts": %d, %s}\n' % (ROWS[0]["ts"], values))
    description = describe(fmt="jsonl", side={}, history_fields=[])
    report = run_job(description, configure(tmp_path / "raw"), tmp_path / "out")
    ((found, _),) = dead_letters(tmp_path / "out" / "dead_letter.jsonl")
    assert (found, report.counts[f"rejected:{reason}"]) == (reason, 1)
    users = [e["user_id"] for split in decoded(tmp_path / "out").values() for e in split]
    assert users.count([snowflake]) == 1
    assert len(users) == len(rows)


def test_bytes_that_are_no_utf8_spoil_one_row_of_a_log(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    path = tmp_path / "raw" / "log-0.csv"
    header, first, *rest = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([header, first, b"\xff" + first, *rest]) + b"\n")
    report = run_job(describe(fmt="csv"), configure(tmp_path / "raw"), tmp_path / "out")
    ((reason, row),) = dead_letters(tmp_path / "out" / "dead_letter.jsonl")
    assert (reason, row["uid"]) == ("user: uid is not int", "\ufffd900")
    assert sum(report.examples.values()) == len(ROWS)


def test_true_and_false_are_flags_of_labels_and_of_actions(tmp_path: Path) -> None:
    rows = [impression(1, item, DAY + item, int(item == 1)) for item in (1, 2, 3)]
    write_log(tmp_path / "raw", [*anchors(), *rows], fmt="csv")
    path = tmp_path / "raw" / "log-0.csv"
    header, *lines = path.read_text().splitlines()
    place = header.split(",").index("clicked")
    worded = [line.split(",") for line in lines]
    for cells in worded:
        cells[place] = {"1": "True", "0": "False"}[cells[place]]
    path.write_text("\n".join([header, *(",".join(cells) for cells in worded)]) + "\n")
    report = run_job(describe(fmt="csv"), configure(tmp_path / "raw"), tmp_path / "out")
    assert report.positives["train"] == 2
    assert not report.counts.get("invalid_values:clicked")
    (last,) = [e for e in decoded(tmp_path / "out")["train"] if e["item_id"] == [3]]
    assert last["history_action"] == [3, 4]


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    with (tmp_path / "raw" / "users.csv").open("ab") as stream:
        stream.write(b"5,\xff\xfe,7\n")
    fails(tmp_path, r"users.csv: not readable as csv: .*[Uu][Tt][Ff]-?8", fmt="csv")


def test_of_rows_with_one_key_in_a_side_file_the_last_counts(tmp_path: Path) -> None:
    users = [{"uid": 900, "country": name, "age": 1} for name in ("A", "B", "C")]
    write_log(tmp_path / "raw", ROWS, users=users)
    run_job(describe(), configure(tmp_path / "raw"), tmp_path / "out")
    examples = decoded(tmp_path / "out")
    assert {e["country"][0] for e in examples["test"]} == {"C"}
    # A user in no side file has its fields missing.
    assert {e["country"][0] for e in examples["train"] if e["user_id"] != [900]} == {""}


def test_a_user_twice_in_the_prior_history_is_refused(tmp_path: Path) -> None:
    row = {"uid": 1, "seen": [1], "clicks": [], "likes": [], "total": 1}
    write_log(tmp_path / "raw", ROWS, prior=[row, row])
    fails(tmp_path, r"prior.parquet: column 'uid' names a user twice")


def test_an_output_folder_with_files_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(InputError, match="out: the output folder is not empty"):
        run_job(describe(), configure(tmp_path / "raw"), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_flags_of_the_wrong_type_are_named_with_one_of_them(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS)
    types = {**LOG_TYPES, "liked": pa.string()}
    write_rows(tmp_path / "raw" / "log-0.parquet", spoil(ROWS, liked="Y"), types, "parquet")
    message = (
        r"column 'liked': 11 of 11 values are no flag \(a number, true or false\), such as 'Y'"
    )
    fails(tmp_path, message)


def test_a_malformed_line_of_other_bytes_goes_to_the_dead_letter_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", ROWS, fmt="csv")
    with (tmp_path / "raw" / "log-0.csv").open("ab") as stream:
        stream.write(b"1,\xe9\xe8\n")
    report = run_job(describe(fmt="csv"), configure(tmp_path / "raw"), tmp_path / "out")
    letters = list(dead_letters(tmp_path / "out" / "dead_letter.jsonl"))
    assert letters == [("line: wrong number of columns", "1,\ufffd\ufffd")]
    assert sum(report.examples.values()) == len(ROWS)
