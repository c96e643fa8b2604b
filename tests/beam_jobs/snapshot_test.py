"""A day on yesterday's snapshot: the same examples as both days at once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from beam_jobs import snapshot as snapshots
from beam_jobs.errors import InputError
from beam_jobs.plan import input_fingerprint, latest_snapshot, make_plan, with_snapshot
from tests.beam_jobs.job import (
    DAY,
    SPLITS,
    START,
    all_records,
    anchors,
    configure,
    dead_letters,
    decode,
    decoded,
    describe,
    impression,
    run_job,
    write_log,
)
from tests.beam_jobs.random_logs import ZONES, histories, logs

# A run of the job costs a second: a failure is not shrunk.
PHASES = (Phase.explicit, Phase.generate)
ANY = {"allow_empty": list(SPLITS)}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a row a duplicate of another."""
    return row["uid"], row["iid"], row["ts"], row["clicked"]


def record_key(record: bytes) -> tuple[Any, ...]:
    """The same of an example."""
    example = decode(record)
    return tuple(example[name][0] for name in ("user_id", "item_id", "timestamp", "label"))


def both_classes(split_day: int, uid: Any) -> list[dict[str, Any]]:
    """A click and none within a day, for the check of classes."""
    return [impression(uid, uid, split_day * DAY + 5 + label, label) for label in (0, 1)]


@settings(max_examples=3, phases=PHASES)
@given(st.data())
def test_days_on_snapshots_give_the_examples_of_all_days_at_once(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["int", "string"]))
    log = data.draw(logs(kind))
    history = data.draw(histories())
    # Cuts fall on times that several rows share, so that ties and duplicates straddle them.
    cuts = sorted(data.draw(st.lists(st.sampled_from([0, 1, 3_600_000]), min_size=2, max_size=2)))
    zone = data.draw(st.sampled_from(ZONES))
    description = describe(ids=kind, log={"files": ["log*"], "format": "parquet", "timezone": zone})
    days: list[list[dict[str, Any]]] = [[], [], []]
    usable = [r for r in log.rows if isinstance(r["ts"], int)]
    ends = [START + 2 * DAY + cuts[0], START + 3 * DAY + cuts[1]]
    for row in usable:
        day = sum(row["ts"] > end for end in ends)
        # A row at the very cut may come with either day, or with both.
        for late in {0, data.draw(st.integers(0, 1))} if row["ts"] in ends else {0}:
            days[day + late].append(row)
    anchor = "anchor" if kind == "string" else 900
    days[1] += [impression(anchor, anchor, (ends[0] - START) + 1 + n, n) for n in (0, 1)]
    days[2] += [impression(anchor, anchor, (ends[1] - START) + 1 + n, n) for n in (0, 1)]

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # Counts of items that later days would raise are not the same on both ways.
        split = {"validation_start": "2024-02-01", "test_start": "2024-02-02"}
        config = {"history": history, "split": split, "allow_empty": list(SPLITS)}
        snapshot = None
        found: list[dict[str, list[bytes]]] = []
        for number, rows in enumerate(days):
            raw = folder / f"raw-{number}"
            write_log(raw, rows, users=log.users, items=log.items, prior=log.prior, ids=kind)
            output, target = folder / f"out-{number}", folder / f"snapshot-{number}"
            run_job(
                description,
                configure(raw, shards=2 + number, **config),
                output,
                snapshot=snapshot,
                snapshot_output=target,
            )
            found.append(all_records(output))
            snapshot = target
        everything = [row for rows in days for row in rows]
        write_log(
            folder / "raw", everything, users=log.users, items=log.items, prior=log.prior, ids=kind
        )
        run_job(description, configure(folder / "raw", **config), folder / "out")
        expected = all_records(folder / "out")

    # Each example stands in the first day that has its row, and nothing is missing.
    seen = [record_key(r) for day in found for split_ in SPLITS for r in day[split_]]
    assert len(seen) == len(set(seen))
    for name in SPLITS:
        assert sorted(r for day in found for r in day[name]) == expected[name]


@pytest.fixture
def two_days(tmp_path: Path) -> tuple[Path, Path]:
    """Two days of a small log with absolute dates; only the first is training."""
    first = [
        *anchors(),
        impression(1, 10, DAY, 1),
        impression(1, 11, 3 * DAY + 1000, 0, tab=0),
        impression(1, 12, 3 * DAY + 1000, 1),
        impression(2, 10, 2 * DAY, 0),
    ]
    second = [
        *both_classes(4, 900),
        # The snapshot's last time once more: one row seen before, one not.
        impression(1, 11, 3 * DAY + 1000, 0, tab=0),
        impression(1, 13, 3 * DAY + 1000, 1),
        impression(1, 10, 4 * DAY, 0),
        impression(3, 10, 4 * DAY, 1),
        # Older than anything that is still to come.
        impression(2, 14, 2 * DAY, 1),
    ]
    write_log(tmp_path / "day1", first)
    write_log(tmp_path / "day2", second)
    return tmp_path / "day1", tmp_path / "day2"


@pytest.mark.parametrize("protocol", ["click_only", "typed_exposure"])
def test_ties_duplicates_and_late_rows_across_the_cut(
    tmp_path: Path, two_days: tuple[Path, Path], protocol: str
) -> None:
    config = {"history": {"protocol": protocol, "max_length": 2}}
    run_job(
        describe(), configure(two_days[0], **config), tmp_path / "a", snapshot_output=tmp_path / "s"
    )
    report = run_job(
        describe(),
        configure(two_days[1], **config, allow_empty=["train", "validation"]),
        tmp_path / "b",
        snapshot=tmp_path / "s",
    )

    found = {
        (e["user_id"][0], e["item_id"][0]): (e["history_item_id"], e["history_length_total"][0])
        for e in decoded(tmp_path / "b")["test"]
        if e["user_id"] != [900]
    }
    clicks = protocol == "click_only"
    assert found == {
        # Neither 11 nor 12, which have its very time.
        (1, 13): ([10], 1),
        (1, 10): ([12, 13], 3 if clicks else 4),
        (3, 10): ([], 0),
    }
    assert report.counts["rejected:late"] == 1
    assert report.counts["rejected:duplicate"] == 1
    letters = dict(dead_letters(tmp_path / "b" / "dead_letter.jsonl"))
    assert letters["late"]["item"] == 14
    assert letters["duplicate"]["item"] == 11


def test_item_counts_and_users_of_the_first_day_are_carried(
    tmp_path: Path, two_days: tuple[Path, Path]
) -> None:
    prior = [{"uid": 77, "seen": [5, 6], "clicks": [6], "likes": [], "total": 9}]
    write_log(tmp_path / "with_prior", [*anchors(), impression(1, 10, DAY, 1)], prior=prior)
    run_job(
        describe(),
        configure(tmp_path / "with_prior"),
        tmp_path / "a",
        snapshot_output=tmp_path / "s",
    )
    # Two days later the user of the prior history alone comes for the first time.
    write_log(tmp_path / "day3", [*both_classes(5, 900), impression(77, 10, 5 * DAY)])
    run_job(
        describe(),
        configure(tmp_path / "day3", **ANY),
        tmp_path / "b",
        snapshot=tmp_path / "s",
    )

    (example,) = [e for e in decoded(tmp_path / "b")["test"] if e["user_id"] == [77]]
    assert example["history_item_id"] == [5, 6]
    assert example["history_action"] == [5, 3]
    assert example["history_length_total"] == [9]
    assert example["item_train_count"] == [1]


@pytest.mark.parametrize(
    ("changes", "config", "named"),
    [
        ({}, {"history": {"protocol": "click_only"}}, "protocol is 'typed_exposure'"),
        ({}, {"history": {"max_length": 7}}, "max_length is 100, the run has 7"),
        ({"name": "other"}, {}, "dataset is 'tiny', the run has 'other'"),
        ({"ids": "string"}, {}, "columns is"),
        ({"actions": [{"name": "exposure"}, {"name": "seen", "prior_only": True}]}, {}, "actions"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(
    tmp_path: Path,
    two_days: tuple[Path, Path],
    changes: dict[str, Any],
    config: dict[str, Any],
    named: str,
) -> None:
    manifest = snapshots.make_manifest(
        describe(), configure().history, last_time=0, fingerprint="", parent=None
    )
    snapshots.write_manifest(str(tmp_path / "s"), manifest, examples="")
    if "actions" in changes:
        changes = {**changes, "prior_history": None}
    description = describe(**changes)

    with pytest.raises(InputError, match="does not fit this run") as refused:
        snapshots.check_compatible(
            str(tmp_path / "s"), manifest, description, configure(**config).history
        )
    assert named in str(refused.value)
    with pytest.raises(InputError):
        with_snapshot(make_plan(configure(two_days[0], **config), description), str(tmp_path / "s"))


def test_a_folder_without_a_manifest_is_no_snapshot(
    tmp_path: Path, two_days: tuple[Path, Path]
) -> None:
    plan = make_plan(configure(two_days[0]), describe())
    with pytest.raises(InputError, match=r"data\.snapshot: .*/nowhere holds no readable snapshot"):
        with_snapshot(plan, str(tmp_path / "nowhere"))


def write_manifest(folder: Path, last_time: int, fingerprint: str, parent: str | None) -> str:
    """Writes a snapshot's manifest alone."""
    manifest = snapshots.make_manifest(
        describe(),
        configure().history,
        last_time=last_time,
        fingerprint=fingerprint,
        parent=parent,
    )
    snapshots.write_manifest(str(folder), manifest, examples="")
    return str(folder)


def test_latest_is_the_newest_but_never_the_run_s_own(tmp_path: Path) -> None:
    assert latest_snapshot(str(tmp_path), "c-1") is None
    first = write_manifest(tmp_path / "1", 100, "a-1", None)
    second = write_manifest(tmp_path / "2", 200, "b-1", first)
    write_manifest(tmp_path / "3.staging-0123", 300, "x-1", second)

    assert latest_snapshot(str(tmp_path), "c-1") == second
    assert latest_snapshot(str(tmp_path), "b-1") == first
    # Other settings, the same log: still the same day.
    assert latest_snapshot(str(tmp_path), "b-2") == first
    assert latest_snapshot(str(tmp_path), "a-1") is None


def test_the_fingerprint_is_of_bytes_and_settings(
    tmp_path: Path, two_days: tuple[Path, Path]
) -> None:
    def fingerprint(folder: Path, **config: Any) -> tuple[str, str]:
        log, _, rest = input_fingerprint(
            make_plan(configure(folder, **config), describe())
        ).partition("-")
        return log, rest

    shutil.copytree(two_days[0], tmp_path / "copy")
    one = fingerprint(two_days[0])
    assert fingerprint(tmp_path / "copy", snapshot="latest") == one
    other = fingerprint(two_days[0], history={"max_length": 3})
    assert (other[0] == one[0], other[1] == one[1]) == (True, False)
    assert fingerprint(two_days[1])[0] != one[0]


def test_a_day_of_late_rows_only_is_refused(tmp_path: Path, two_days: tuple[Path, Path]) -> None:
    run_job(describe(), configure(two_days[0]), tmp_path / "a", snapshot_output=tmp_path / "s")
    write_log(tmp_path / "old", [impression(1, 1, DAY)])
    with pytest.raises(InputError, match="1 rows are older than the snapshot"):
        run_job(
            describe(),
            configure(tmp_path / "old"),
            tmp_path / "b",
            snapshot=tmp_path / "s",
            snapshot_output=tmp_path / "t",
        )
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob("*staging*"))
    assert not (tmp_path / "t").exists()


def test_a_corrected_log_is_told_the_snapshot_it_wants(
    tmp_path: Path, two_days: tuple[Path, Path]
) -> None:
    run_job(describe(), configure(two_days[0]), tmp_path / "a", snapshot_output=tmp_path / "s")
    second = configure(two_days[1], allow_empty=["train", "validation"])
    run_job(
        describe(),
        second,
        tmp_path / "b",
        snapshot=tmp_path / "s",
        snapshot_output=tmp_path / "t",
    )
    # A log of the second day for a run that would start from that day.
    with pytest.raises(InputError, match=rf"wants data.snapshot={tmp_path}/s\)"):
        run_job(
            describe(),
            second,
            tmp_path / "c",
            snapshot=tmp_path / "t",
            snapshot_output=tmp_path / "u",
        )


def test_a_day_run_twice_gives_the_same_examples_and_snapshot(
    tmp_path: Path, two_days: tuple[Path, Path]
) -> None:
    for name in ("a", "b"):
        run_job(
            describe(),
            configure(two_days[0]),
            tmp_path / name,
            snapshot_output=tmp_path / f"s-{name}",
            fingerprint="day-1",
        )
    assert all_records(tmp_path / "a") == all_records(tmp_path / "b")
    files = sorted(p.name for p in (tmp_path / "s-a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "s-b").iterdir())
    assert not [name for name in files if name.endswith(".tmp")]
    # This one names the folder of the examples, which differs.
    files.remove(snapshots.EXAMPLES_OF)
    for name in files:
        assert (tmp_path / "s-a" / name).read_bytes() == (tmp_path / "s-b" / name).read_bytes()
    assert json.loads((tmp_path / "s-a" / "manifest.json").read_text())["fingerprint"] == "day-1"
