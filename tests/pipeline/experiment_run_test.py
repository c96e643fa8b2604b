"""A grid from the command line on a small simulated log, held against a run of the pipeline."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.experiments.results import read_lines
from tests.pipeline.program import TIMEOUT, run_program

# Builds two example sets and trains three cells: minutes beside the other end-to-end tests.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]


def write_config(folder: Path) -> dict[str, Any]:
    return {
        "run": {"name": "e2e", "root": str(folder / "run")},
        "data": {
            "dataset": "simulated",
            "path": str(folder / "raw"),
            "generate": {"impressions": 6000, "seed": 3},
            "history": {"max_length": 30},
            "length_edges": [5, 20],
            "density_edges": [5, 50],
            "shards": 2,
        },
        "model": {"embedding_dim": 4, "hidden_units": [8]},
        "train": {"max_epochs": 1, "batch_size": 256},
        "evaluation": {
            "thresholds": {"auc": {"min": 0.1}},
            "slice_thresholds": {},
            "min_slice_size": 5000,
        },
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of one model, and one that cannot be trained, run once."""
    folder = tmp_path_factory.mktemp("experiment")
    config = write_config(folder)
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    grid = {
        "name": "small",
        "config": "run.yaml",
        "set": {"run.root": str(folder / "experiments"), "model.backbone": "pooled"},
        "seeds": [1],
        "models": {
            # Bigger than any memory, so it fails once it runs and not before.
            "huge": {"set": {"model.embedding_dim": 2_000_000_000}},
            "pooled": {"set": {"model.embedding_dim": 4}},
            "again": {"base": "pooled", "set": {"model.embedding_dim": 4}},
        },
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
    done = run_program("experiment", str(folder / "grid.yaml"))
    (folder / "first.json").write_text(
        json.dumps([done.returncode, done.stdout, done.stderr]), encoding="utf-8"
    )
    return folder


def test_a_failed_cell_stops_no_other_and_is_in_the_exit_code(workspace: Path) -> None:
    code, output, errors = json.loads((workspace / "first.json").read_text(encoding="utf-8"))
    assert code == 1, errors
    assert "1 cells failed: huge seed 1" in errors
    assert "huge seed 1: failed" in output
    assert "pooled seed 1: AUC 0." in output
    root = workspace / "experiments"
    [failure] = read_lines(root / "failures.jsonl")
    assert failure["model"] == "huge"
    assert failure["error"]
    # `again` has the settings of `pooled`, so one training serves both.
    [row] = read_lines(root / "results.jsonl")
    assert row["model"] == "pooled"
    assert not list((root / "tmp").glob("*"))
    report = (root / "small" / "report.md").read_text(encoding="utf-8")
    assert "| huge | 0 | not run |" in report
    assert "| again | pooled | overall |" in report


def test_what_is_there_is_not_trained_again_and_diagnostics_follow(workspace: Path) -> None:
    grid = str(workspace / "grid.yaml")
    done = run_program("experiment", grid, "--only", "pooled", "again")
    assert done.returncode == 0, done.stderr
    assert "2 cells, 2 of them done" in done.stdout
    root = workspace / "experiments"
    # With --report nothing is trained, not even what is missing.
    done = run_program("experiment", grid, "--only", "pooled", "--report", "--diagnostics")
    assert done.returncode == 0, done.stderr
    assert len(read_lines(root / "results.jsonl")) == 1
    # The tables stay those of the whole grid.
    assert "| huge | 0 | not run |" in (root / "small" / "report.md").read_text(encoding="utf-8")
    found = json.loads(
        (root / "small" / "diagnostics" / "pooled-1" / "diagnostics.json").read_text()
    )
    assert found["attention"] == {}  # pooled has none


def test_the_figures_are_those_of_the_pipelines_own_evaluation(workspace: Path) -> None:
    """The same settings and seed, exported and evaluated on the raw examples by TFMA."""
    summary = workspace / "summary.json"
    done = run_program(
        "run",
        str(workspace / "run.yaml"),
        "--summary",
        str(summary),
        "--set",
        "model.backbone=pooled",
    )
    assert done.returncode == 0, done.stderr
    evaluated = json.loads(summary.read_text(encoding="utf-8"))
    [row] = read_lines(workspace / "experiments" / "results.jsonl")
    assert row["validation"]["auc"] == pytest.approx(
        evaluated["training"]["validation"]["auc"], abs=1e-9
    )
    ours = row["test"]["overall"]
    for name in ("auc", "gauc", "log_loss", "calibration"):
        assert ours[name] == pytest.approx(evaluated["overall"][name], abs=1e-5)
    assert ours["examples"] == evaluated["overall"]["example_count"]
    for dimension in ("length_bucket", "density_bucket"):
        for bucket, values in row["test"][dimension].items():
            found = evaluated["slices"].get(f"{dimension}:{bucket}")
            if found is None:
                assert values["examples"] == 0
                continue
            assert values["examples"] == found["example_count"]
            for name in ("auc", "gauc"):
                expected = found[name]
                assert values[name] == (
                    None if expected is None else pytest.approx(expected, abs=1e-5)
                )


def test_predictions_are_kept_and_agree_with_the_figures(workspace: Path) -> None:
    from models import metrics

    root = workspace / "experiments"
    [row] = read_lines(root / "results.jsonl")
    with np.load(root / row["predictions"]) as arrays:
        assert metrics.auc(arrays["label"], arrays["logit"]) == row["test"]["overall"]["auc"]
        assert len(np.unique(arrays["key"])) == len(arrays["key"])


def test_in_the_background_it_says_how_to_follow_and_to_stop_it(workspace: Path) -> None:
    grid = str(workspace / "grid.yaml")
    done = run_program("experiment", grid, "--only", "pooled", "--seeds", "2", "--background")
    assert done.returncode == 0, done.stderr
    process = int(done.stdout.partition("as process ")[2].split()[0])
    log = Path(done.stdout.partition("tail -f ")[2].split()[0])
    try:
        deadline = time.monotonic() + TIMEOUT
        while "1 cells, 0 of them done" not in log.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        held = run_program("experiment", grid)
        assert held.returncode == 1
        assert f"process {process}" in held.stderr
    finally:
        os.kill(process, signal.SIGTERM)
