"""Tests of when the snapshot of a run may be the start of another day."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2

from beam_jobs.snapshot import REFUSED
from components.errors import DataRefused
from pipeline import runner
from pipeline.runner import WatchedDagRunner, run_pipeline


class Steps:
    """Notes the steps that a run tells of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self, step: str) -> None:
        self.told.append(step)

    def finish(self, *, cached: bool = False) -> None:
        self.told.append("cached" if cached else "done")


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of the last run, which data validation has not taken yet."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / REFUSED).touch()
    made = metadata_store_pb2.Artifact()
    made.custom_properties["snapshot"].string_value = str(folder)
    found = [("Examples", made), ("Examples", metadata_store_pb2.Artifact())]
    monkeypatch.setattr(runner, "artifacts_of_last_run", lambda database: iter(found))
    return folder


def run_until(
    error: BaseException, steps: list[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Runs a pipeline of which some steps end well before an error; returns what was told."""

    def run(self: WatchedDagRunner, pipeline: Any) -> None:
        for step in steps:
            self._watcher.start(step)
            self._watcher.finish(cached=step == "ExampleGen")
        raise error

    monkeypatch.setattr(WatchedDagRunner, "run", run)
    config = argparse.Namespace(run=argparse.Namespace(beam_args=()))
    watcher = Steps()
    prepared: Any = argparse.Namespace(root=root, config=config)
    with pytest.raises(type(error)):
        run_pipeline(prepared, watcher, create=lambda *_: None)  # type: ignore[arg-type,return-value]
    return watcher.told


def test_a_snapshot_is_a_start_from_the_gate_on_whatever_comes_of_the_run(
    tmp_path: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = KeyboardInterrupt()
    told = run_until(killed, ["ExampleGen", "StatisticsGen"], tmp_path, monkeypatch)
    assert told == ["ExampleGen", "cached", "StatisticsGen", "done"]
    assert (snapshot / REFUSED).exists()
    full = OSError(28, "No space left on device")
    run_until(full, ["ExampleGen", "SchemaGate"], tmp_path, monkeypatch)
    assert not (snapshot / REFUSED).exists()


def test_a_day_that_another_schema_refuses_is_no_start_any_more(
    tmp_path: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snapshot / REFUSED).unlink()
    run_until(DataRefused("the label is NaN"), ["ExampleGen"], tmp_path, monkeypatch)
    assert (snapshot / REFUSED).exists()


def test_a_snapshot_that_was_removed_by_hand_needs_no_mark(
    tmp_path: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (snapshot / REFUSED).unlink()
    snapshot.rmdir()
    run_until(DataRefused("the label is NaN"), ["SchemaGate"], tmp_path, monkeypatch)
    assert not snapshot.exists()
