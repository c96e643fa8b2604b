"""Tests of HistoryExampleGen: examples, snapshot and the examples of earlier runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tfx.types import artifact_utils, standard_artifacts

from beam_jobs.config import DataConfig
from beam_jobs.errors import InputError
from beam_jobs.plan import latest_snapshot
from beam_jobs.snapshot import REFUSED, read_manifest
from components.example_gen.component import HistoryExampleGen
from components.example_gen.earlier import EARLIER_FILE, link_earlier
from components.example_gen.executor import Executor
from schemas.dataset import DatasetDescription
from schemas.loading import build, to_plain

DAY = 86_400_000
FIRST_DAY = 1_767_225_600_000  # 2026-01-01 UTC
DESCRIPTION = {
    "name": "tiny",
    "log": {"files": ["*.csv"], "format": "csv"},
    "user": {"column": "user"},
    "item": {"column": "item"},
    "time": {"column": "time", "years": [2026, 2026]},
    "label": {"column": "click"},
    "actions": [{"name": "click", "when": ["click"], "positive": True}, {"name": "exposure"}],
    "split": {"validation": "6h", "test": "6h"},
}


def write_day(folder: Path, day: int) -> Path:
    """Writes a log of 48 impressions of three users, one every half hour."""
    folder.mkdir(parents=True)
    rows = [
        f"{number % 3},{number % 5},{FIRST_DAY + day * DAY + number * DAY // 48},{number // 3 % 2}"
        for number in range(48)
    ]
    (folder / "log.csv").write_text("user,item,time,click\n" + "\n".join(rows) + "\n")
    return folder


def run(root: Path, data: Path, name: str, **settings: Any) -> standard_artifacts.Examples:
    """Runs the executor as TFX would and returns the artifact it filled."""
    config = {"dataset": "tiny", "path": str(data), "shards": 2, **settings}
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples" / name)
    Path(examples.uri).mkdir(parents=True)
    snapshot = config.pop("from_snapshot", "")
    config["snapshot"] = snapshot or "none"
    Executor().Do(
        {},
        {"examples": [examples]},
        {
            "data": json.dumps(to_plain(build(DataConfig, config, where="data"))),
            "description": json.dumps(
                to_plain(build(DatasetDescription, DESCRIPTION, where="description"))
            ),
            "snapshot": snapshot,
            "snapshot_root": str(root / "snapshots" / name),
            "failed_dead_letter": str(root / "failed_dead_letter.jsonl"),
            "fingerprint": f"fingerprint-{name}",
            "source_hash": "x",
        },
    )
    return examples


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, Any]]:
    root = tmp_path_factory.mktemp("example_gen")
    first = run(root, write_day(root / "raw" / "1", 0), "first")
    second = run(
        root,
        write_day(root / "raw" / "2", 1),
        "second",
        from_snapshot=first.get_string_custom_property("snapshot"),
        earlier_examples=5,
    )
    return root, first, second


def test_component_declares_its_splits_and_parameters() -> None:
    component = HistoryExampleGen(
        data="{}",
        description="{}",
        snapshot="",
        snapshot_fingerprint="",
        snapshot_root="s",
        failed_dead_letter="d",
        fingerprint="f",
        source_hash="h",
    )
    assert list(component.outputs) == ["examples"]
    assert component.exec_properties["fingerprint"] == "f"
    assert component.outputs["examples"].type is standard_artifacts.Examples


def test_examples_have_splits_and_a_snapshot_that_names_its_input(
    two_days: tuple[Path, Any, Any],
) -> None:
    _, first, second = two_days
    for examples in (first, second):
        names = artifact_utils.decode_split_names(examples.split_names)
        assert names == ["train", "validation", "test"]
        for split in names:
            assert list(Path(examples.uri, f"Split-{split}").glob("data_tfrecord-*"))
    snapshots = [e.get_string_custom_property("snapshot") for e in (first, second)]
    assert read_manifest(snapshots[0]).parent is None
    assert read_manifest(snapshots[1]).parent == snapshots[0]
    assert read_manifest(snapshots[1]).fingerprint == "fingerprint-second"


def test_a_new_snapshot_is_no_start_before_the_gate_has_taken_its_day(
    two_days: tuple[Path, Any, Any],
) -> None:
    _, first, _ = two_days
    snapshot = Path(first.get_string_custom_property("snapshot"))
    assert latest_snapshot(str(snapshot.parent), "another-day") is None
    (snapshot / REFUSED).unlink()
    try:
        assert latest_snapshot(str(snapshot.parent), "another-day") == str(snapshot)
    finally:
        (snapshot / REFUSED).touch()


def test_earlier_examples_join_the_training_split_only(two_days: tuple[Path, Any, Any]) -> None:
    _, first, second = two_days
    earlier = json.loads(Path(second.uri, EARLIER_FILE).read_text())
    assert earlier["folders"] == [first.uri]
    assert earlier["examples"] == 48
    assert "begins there" in earlier["stopped"]
    linked = sorted(p.name for p in Path(second.uri, "Split-train").glob("earlier-*"))
    originals = sorted(Path(first.uri).glob("Split-*/data_tfrecord-*"))
    assert len(linked) == len(originals)
    for original in originals:
        split = original.parent.name.removeprefix("Split-")
        copy = Path(second.uri, "Split-train", f"earlier-1-{split}-{original.name}")
        assert copy.read_bytes() == original.read_bytes()
    assert not list(Path(second.uri).glob("Split-[vt]e*/earlier-*"))
    assert not list(Path(second.uri).glob("Split-validation/earlier-*"))


def test_the_chain_ends_where_examples_are_gone(
    two_days: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    _, first, second = two_days
    snapshot = second.get_string_custom_property("snapshot")
    own = json.loads(Path(second.uri, EARLIER_FILE).read_text())["features"]
    assert link_earlier(snapshot, 1, tmp_path, own).folders == [second.uri]
    assert link_earlier(snapshot, 1, tmp_path, own).stopped is None
    assert link_earlier(snapshot, 9, tmp_path, own).folders == [second.uri, first.uri]
    assert link_earlier(None, 9, tmp_path, own).folders == []
    other = link_earlier(snapshot, 9, tmp_path, "others")
    assert other.folders == []
    assert "has other features" in str(other.stopped)
    Path(first.uri, "report.json").rename(Path(first.uri, "report.gone"))
    try:
        gone = link_earlier(snapshot, 9, tmp_path, own)
        assert gone.folders == [second.uri]
        assert "has been removed" in str(gone.stopped)
    finally:
        Path(first.uri, "report.gone").rename(Path(first.uri, "report.json"))


def test_a_day_that_is_late_leaves_nothing_behind(two_days: tuple[Path, Any, Any]) -> None:
    root, _, second = two_days
    with pytest.raises(InputError, match="snapshot"):
        run(
            root,
            root / "raw" / "1",
            "late",
            from_snapshot=second.get_string_custom_property("snapshot"),
        )
    assert not list((root / "snapshots" / "late").glob("*"))
    assert not list((root / "examples" / "late").glob("*"))
    rejected = (root / "failed_dead_letter.jsonl").read_text().splitlines()
    assert len(rejected) == 48
    assert {json.loads(line)["reason"] for line in rejected} == {"late"}
