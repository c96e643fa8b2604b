"""A search from the command line on a small simulated log, gone on with after its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config
from tests.pipeline.program import TIMEOUT, run_program

KEY = "train.learning_rate"

# Runs the pipeline up to Transform and trains three times.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(TIMEOUT)]


def test_the_best_of_a_search_that_was_gone_on_with(tmp_path: Path) -> None:
    root = tmp_path / "run"
    config = {
        "run": {"name": "tune", "root": str(root)},
        "data": {
            "dataset": "simulated",
            "path": str(tmp_path / "raw"),
            "generate": {"impressions": 3000, "seed": 3},
            "history": {"max_length": 20},
            "length_edges": [5],
            "density_edges": [5],
            "shards": 1,
        },
        "model": {"backbone": "pooled", "embedding_dim": 4, "hidden_units": [8]},
        "train": {"max_epochs": 1, "batch_size": 256},
        "tune": {"trials": 2, "keys": {KEY: {"min": 1e-3, "max": 1e-1, "scale": "log"}}},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    for trials, trained in ((2, ["trial 1/2", "trial 2/2"]), (3, ["trial 3/3"])):
        done = run_program("tune", str(path), "--set", f"tune.trials={trials}")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line.strip() for line in done.stdout.splitlines()]
        assert [line[:9] for line in lines if line.startswith("trial ")] == trained
        results = json.loads((root / "tune" / "trials.json").read_text(encoding="utf-8"))
        assert len({row[KEY] for row in results}) == trials
        assert results == sorted(results, key=lambda row: row["auc"], reverse=True)
        assert f"best of {trials} trials: validation AUC {results[0]['auc']:.4f}" in done.stdout
        best = load_config(root / "tune" / "best.yaml")
        assert best.train.learning_rate == results[0][KEY]
        assert not best.tune.keys
    assert len(list((root / "tune").glob("search-*"))) == 1
