"""Runs as a scheduler starts them: the first, killed ones, one with nothing new, refusals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.runs import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# It starts two processes that import TensorFlow.
WITHOUT_CANARY = "canary.enabled=false"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("nightly"))


@pytest.fixture(scope="module")
def first(workspace: Workspace) -> tuple[int, dict[str, Any], str]:
    return workspace.run_program()


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Workspace, tuple[int, dict[str, Any], str]]:
    """A workspace whose runs were killed in one step after the other, and the run after them."""
    workspace = Workspace(tmp_path_factory.mktemp("killed"))
    for node in (
        "ExampleGen",
        "StatisticsGen",
        "SequenceProfile",
        "Transform",
        "Trainer",
        "Evaluator",
    ):
        workspace.kill_in(node, WITHOUT_CANARY)
        assert workspace.versions() == []
    return workspace, workspace.run(WITHOUT_CANARY)


def test_first_run_pushes_a_model(
    workspace: Workspace, first: tuple[int, dict[str, Any], str]
) -> None:
    code, summary, output = first
    assert code == 0, output
    assert summary["status"] == "pushed"
    assert workspace.versions() == ["1"]
    assert Path(summary["version_folder"]) == workspace.root / "serving" / "1"
    assert (workspace.root / "serving" / "1" / "saved_model.pb").exists()
    assert str(workspace.root / "serving" / "1") in output
    assert "Traceback" not in output
    overall = summary["overall"]
    assert {"auc", "log_loss", "example_count"} <= set(overall)
    assert overall["example_count"] == summary["counters"]["examples:test"]
    assert summary["baseline"] == {}
    assert "max_worsening" in summary["not_judged"]
    by_length = [
        v for k, v in summary["slices"].items() if k.startswith("length_bucket:") and "," not in k
    ]
    assert sum(metrics["example_count"] for metrics in by_length) == overall["example_count"]
    assert summary["counters"]["rows_read"] == 6000
    assert all(step["seconds"] >= 0 for step in summary["steps"].values())
    assert not list((workspace.root / "tmp").glob("*"))
    assert summary["canary"]["status"] == "passed"
    assert {"serving_default", "rank"} <= set(summary["canary"]["signatures"])
    warmup = workspace.root / "serving" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert warmup.stat().st_size > 0


def test_killed_in_any_step_the_next_run_picks_up(
    killed: tuple[Workspace, tuple[int, dict[str, Any], str]],
) -> None:
    workspace, (code, summary, output) = killed
    assert code == 0, output
    assert summary["status"] == "pushed"
    assert summary["steps"]["ExampleGen"]["cached"]
    assert summary["steps"]["Trainer"]["cached"]
    assert workspace.versions() == ["1"]
    assert not list(workspace.root.glob("pipeline/*/examples/*.staging-*"))
    assert len(list(workspace.root.glob("snapshots/*"))) == 1


def test_a_seed_repeats_a_run_from_the_raw_log(
    workspace: Workspace,
    first: tuple[int, dict[str, Any], str],
    killed: tuple[Workspace, tuple[int, dict[str, Any], str]],
) -> None:
    """Even one that was killed in every step on the way."""
    fresh, (_, summary, _) = killed
    for split in ("train", "validation"):
        assert fresh.transformed(split) == workspace.transformed(split)
    weights, epochs = fresh.trained()
    expected_weights, expected_epochs = workspace.trained()
    assert epochs == expected_epochs
    assert weights == expected_weights
    assert summary["overall"] == first[1]["overall"]
    assert summary["slices"] == first[1]["slices"]


def test_a_full_disk_names_the_fault_and_keeps_the_model(
    killed: tuple[Workspace, tuple[int, dict[str, Any], str]],
) -> None:
    workspace, _ = killed

    # The examples of one shard are larger than this.
    code, summary, output = workspace.run("data.shards=1", WITHOUT_CANARY, file_limit=700_000)
    assert code == 1, output
    assert "File too large" in summary["error"]
    assert workspace.versions() == ["1"]

    # Larger than any file but the weights of a wide model.
    wide = ("model.embedding_dim=2048", "model.hidden_units=[64]", WITHOUT_CANARY)
    code, summary, output = workspace.run(*wide, file_limit=3_000_000)
    assert code == 1, output
    assert summary["error"].startswith("Trainer")
    assert workspace.versions() == ["1"]

    code, summary, output = workspace.run(WITHOUT_CANARY)
    assert code == 0, output
    assert summary["status"] == "unchanged"


def test_a_run_with_nothing_new_trains_and_pushes_nothing(
    workspace: Workspace, first: tuple[int, dict[str, Any], str]
) -> None:
    code, summary, output = workspace.run()
    assert code == 0, output
    assert summary["status"] == "unchanged"
    assert workspace.versions() == ["1"]
    steps = ("ExampleGen", "StatisticsGen", "Transform", "Trainer", "SequenceProfile")
    for step in (*steps, "ServingCanary"):
        assert summary["steps"][step]["cached"], step


def test_a_model_that_fails_a_slice_is_refused(
    workspace: Workspace, first: tuple[int, dict[str, Any], str]
) -> None:
    code, summary, output = workspace.run("evaluation.slice_thresholds.auc.min=0.99")
    assert code == 3, output
    assert summary["status"] == "not_blessed"
    assert any("length_bucket:" in reason for reason in summary["refusals"])
    assert "is below 0.99" in output
    assert workspace.versions() == ["1"]


def test_a_model_that_fails_in_a_server_is_refused_and_tried_again(
    workspace: Workspace, first: tuple[int, dict[str, Any], str], tmp_path: Path
) -> None:
    server = tmp_path / "tensorflow_model_server"
    server.write_text("#!/bin/sh\nexit 7\n")
    server.chmod(0o755)
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for _ in range(2):
        code, summary, output = workspace.run("canary.server=tensorflow_serving", environment=path)
        assert code == 3, output
        assert summary["status"] == "not_blessed"
        assert summary["canary"]["status"] == "refused"
        assert any("server ended with code 7" in one for one in summary["refusals"])
        assert "refused: canary server" in output
        assert summary["steps"]["Trainer"]["cached"]
        assert not summary["steps"]["ServingCanary"]["cached"]
        assert workspace.versions() == ["1"]


def test_data_that_breaks_the_schema_stop_the_run_before_transform(
    workspace: Workspace, first: tuple[int, dict[str, Any], str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(workspace.folder / "raw", raw)
    for path in raw.glob("impressions*.parquet"):
        table = pq.read_table(path)
        index = table.schema.get_field_index("surface")
        unknown = pa.array(["hologram"] * table.num_rows)
        pq.write_table(table.set_column(index, "surface", unknown), path)
    code, summary, output = workspace.run(f"data.path={raw}", "data.generate=null")
    assert code == 3, output
    assert summary["status"] == "failed"
    assert "surface" in summary["error"]
    assert "hologram" in summary["error"]
    assert "Transform" not in summary["steps"]
    assert workspace.versions() == ["1"]


def test_an_edit_of_the_raw_data_is_noticed(
    workspace: Workspace, first: tuple[int, dict[str, Any], str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(workspace.folder / "raw", raw)
    path = raw / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    code, summary, output = workspace.run(f"data.path={raw}", "data.generate=null", WITHOUT_CANARY)
    assert code == 0, output
    assert not summary["steps"]["ExampleGen"]["cached"]
    assert not summary["steps"]["Trainer"]["cached"]
    assert summary["status"] == "pushed"
    assert workspace.versions() == ["1", "2"]
    # Version 1, on the examples of this run.
    assert summary["baseline"]["example_count"] == summary["overall"]["example_count"]
    assert "max_worsening" not in summary["not_judged"]


def test_bad_raw_data_end_with_code_2_and_keep_the_model(
    workspace: Workspace, first: tuple[int, dict[str, Any], str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(workspace.folder / "raw", raw)
    for path in raw.glob("impressions*.parquet"):
        table = pq.read_table(path)
        index = table.schema.get_field_index("time_ms")
        seconds = pa.array([value // 1000 for value in table.column("time_ms").to_pylist()])
        pq.write_table(table.set_column(index, "time_ms", seconds), path)
    before = workspace.versions()
    code, summary, output = workspace.run(f"data.path={raw}", "data.generate=null")
    assert code == 2, output
    assert "time_ms lies outside 2026 to 2026" in summary["error"]
    assert (workspace.root / "failed_dead_letter.jsonl").exists()
    assert workspace.versions() == before
