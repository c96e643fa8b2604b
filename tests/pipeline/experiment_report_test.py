"""Tests of the tables: what is shown, what is said not to be there, and the CSV files."""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.commands import experiment
from pipeline.experiments.example_sets import SCORED_ROWS, set_folder, write_json
from pipeline.experiments.grid import Cell, Grid, load_grid
from pipeline.experiments.report import write_report
from pipeline.experiments.results import append_line
from pipeline.experiments.row_facts import FACT, RowFacts, write_arrays
from pipeline.experiments.run import DIAGNOSTICS_FILE, RESULTS, Places
from pipeline.experiments.slices import ONE_HISTORY, sliced_metrics
from schemas import features
from tests.pipeline.experiment_comparison_test import make_facts, make_logits
from tests.pipeline.experiment_grid_test import write_grid

EDGES = {"data.length_edges": [10], "data.density_edges": [5]}
MODELS = {
    "pooled": {"set": {"model.backbone": "pooled"}},
    "din": {"base": "pooled", "set": {"model.backbone": "din"}},
    "wide": {"base": ["pooled", "din"], "set": {"model.embedding_dim": 64}},
}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return load_grid(write_grid(tmp_path, set=EDGES, models=MODELS))


def finish(grid: Grid, cell: Cell, facts: RowFacts, strength: float) -> dict[str, Any]:
    """Leaves what a trained cell leaves."""
    logits = make_logits(facts, strength, cell.seed)
    rows = set_folder(grid.root, cell.example_key) / SCORED_ROWS
    write_arrays(
        rows, {FACT + name: getattr(facts, name) for name in RowFacts.__dataclass_fields__}
    )
    predictions = f"predictions/{cell.config_hash}.npz"
    arrays = {"key": facts.key, "label": facts.label, "logit": logits}
    write_arrays(grid.root / predictions, arrays)
    buckets = {
        features.LENGTH_BUCKET: facts.length_bucket,
        features.DENSITY_BUCKET: facts.density_bucket,
    }
    edges = {features.LENGTH_BUCKET: [10], features.DENSITY_BUCKET: [5]}
    row = {
        "model": cell.model,
        "seed": cell.seed,
        "config": cell.settings,
        "config_hash": cell.config_hash,
        "example_set": cell.example_key,
        "predictions": predictions,
        "code": {"commit": None, "edited": None},
        "when": "2026-01-01T00:00:00+00:00",
        "validation": {"auc": 0.7, "gauc": None, "log_loss": 0.6, "calibration": 1.0},
        "test": {
            **sliced_metrics(facts.label, logits, facts.user, buckets, edges),
            ONE_HISTORY: {"auc": 0.6, "gauc": 0.5 + cell.seed / 100},
        },
        "epochs": 1,
        "parameters": {"tables": 12345, "dense": 678},
        "examples_per_second": 1000.0,
        "seconds": 61.0,
        "peak_memory_mb": 900.0,
    }
    append_line(grid.root / RESULTS, row)
    return row


def report_of(grid: Grid) -> tuple[str, Path]:
    path = write_report(grid, Places(root=grid.root, results=grid.root / RESULTS))
    return path.read_text(encoding="utf-8"), path.parent


def line_of(text: str, *starts: str) -> list[str]:
    start = "| " + " | ".join(starts) + " |"
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_nothing_run_is_a_table_that_says_so(grid: Grid) -> None:
    text, folder = report_of(grid)
    assert line_of(text, "din", "0")[2] == "not run"
    assert "Cells not run: pooled seed 1, pooled seed 2, din seed 1" in text
    assert "din less pooled: not run" in text
    assert (folder / "cells.csv").read_text() == ""


def test_means_deviations_and_differences_of_what_was_run(grid: Grid) -> None:
    facts = make_facts()
    rows = [finish(grid, grid.cells["pooled", seed], facts, 1.0) for seed in (1, 2)]
    rows.append(finish(grid, grid.cells["din", 1], facts, 1.5))
    text, folder = report_of(grid)
    aucs = [row["test"]["overall"]["auc"] for row in rows]
    pooled = line_of(text, "pooled", "1, 2")
    assert pooled[2] == f"{np.mean(aucs[:2]):.4f} ± {np.std(aucs[:2], ddof=1):.4f}"
    assert "12,345" in pooled
    assert "678" in pooled
    assert pooled[6] == "0.5150 ± 0.0071"  # GAUC with one history a user, 0.51 and 0.52
    assert pooled.count("-") == 1  # the validation GAUC that is not defined
    assert line_of(text, "din", "1")[2] == f"{aucs[2]:.4f}"
    assert "Cells not run: din seed 2, wide seed 1, wide seed 2." in text
    difference = line_of(text, "din", "pooled", "overall")
    assert difference[3:6] == ["3,000", "1", f"{aucs[2] - aucs[0]:+.4f}"]
    assert difference[6] == "-"  # no interval of one seed
    assert difference[7].startswith("[+0.0")
    assert difference[-2] == f"{aucs[2] - aucs[0]:+.4f}"
    assert "wide less din: not run" in text
    bucket = line_of(text.partition("## AUC by length bucket")[2].partition("##")[0], "din")
    assert bucket[1] == f"{rows[2]['test']['length_bucket']['0-9']['auc']:.4f}"
    with (folder / "cells.csv").open(encoding="utf-8") as stream:
        cells = list(csv.DictReader(stream))
    assert [(cell["model"], cell["seed"]) for cell in cells] == [
        ("pooled", "1"),
        ("pooled", "2"),
        ("din", "1"),
    ]
    assert float(cells[2]["test_auc"]) == aucs[2]
    with (folder / "differences.csv").open(encoding="utf-8") as stream:
        overall = [line for line in csv.DictReader(stream) if line["dimension"] == "overall"]
    assert {line["metric"] for line in overall} == {"auc", "gauc", "log_loss"}
    with (folder / "slices.csv").open(encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 3 * 4


def test_a_model_that_is_worse_is_marked(grid: Grid) -> None:
    facts = make_facts()
    finish(grid, grid.cells["pooled", 1], facts, 2.0)
    finish(grid, grid.cells["din", 1], facts, 0.5)
    text, _ = report_of(grid)
    assert line_of(text, "din", "pooled", "overall")[-1] == "**AUC below**"


def test_a_slice_of_one_class_has_no_auc_to_compare(grid: Grid) -> None:
    facts = make_facts()
    long = facts.length_bucket == "10+"
    facts = dataclasses.replace(facts, label=np.where(long, 0, facts.label).astype(np.float32))
    finish(grid, grid.cells["pooled", 1], facts, 1.0)
    finish(grid, grid.cells["din", 1], facts, 1.5)
    text, folder = report_of(grid)
    assert "nan" not in text
    line = line_of(text, "din", "pooled", "length 10+")
    assert line[5:11] == ["-"] * 6
    assert line[11].startswith(("+", "-0."))
    assert line[14:] == ["-", ""]
    with (folder / "differences.csv").open(encoding="utf-8") as stream:
        means = {
            row["metric"]: row["mean"] for row in csv.DictReader(stream) if row["bucket"] == "10+"
        }
    assert (means["auc"], means["gauc"]) == ("", "")
    assert float(means["log_loss"])


def test_lost_predictions_are_said_and_the_rest_is_shown(grid: Grid) -> None:
    facts = make_facts()
    finish(grid, grid.cells["pooled", 1], facts, 1.0)
    row = finish(grid, grid.cells["din", 1], facts, 1.0)
    (grid.root / row["predictions"]).unlink()
    text, _ = report_of(grid)
    assert f"din: [Errno 2] No such file or directory: '{grid.root / row['predictions']}'" in text
    assert line_of(text, "din", "1")[2] == f"{row['test']['overall']['auc']:.4f}"


def test_predictions_of_another_training_are_not_compared(grid: Grid) -> None:
    facts = make_facts()
    finish(grid, grid.cells["pooled", 1], facts, 1.0)
    row = finish(grid, grid.cells["din", 1], facts, 1.0)
    # As by a second results file in the same folder.
    arrays = {"key": facts.key, "label": facts.label, "logit": make_logits(facts, 1.5, 1)}
    write_arrays(grid.root / row["predictions"], arrays)
    text, folder = report_of(grid)
    assert f"where the row of seed 1 says {row['test']['overall']['auc']:.6f}" in text
    assert line_of(text, "din", "1")[2] == f"{row['test']['overall']['auc']:.4f}"
    assert line_of(text, "din", "1")[7] == "-"  # AUC under 20 events
    assert (folder / "differences.csv").read_text() == ""


def test_diagnostics_that_are_there_are_shown(grid: Grid) -> None:
    places = Places(root=grid.root, results=grid.root / RESULTS)
    assert "attention" not in report_of(grid)[0]
    for seed, gini in ((1, 0.25), (2, 0.35)):
        bucket = {"gini": gini, "relative_entropy": 0.9, "prompt_share": 0.5}
        found = {
            "attention": {"short": {"0-9": {**bucket, "gini": None}, "10+": bucket}},
            "gate": {"5+": {"distance_from_one": 0.125}},
        }
        write_json(places.diagnostics(grid, grid.cells["din", seed]) / DIAGNOSTICS_FILE, found)
    text, _ = report_of(grid)
    table = text.partition("## Gini coefficient of the attention to events")[2]
    assert line_of(table.partition("##")[0], "din", "short") == [
        "din",
        "short",
        "-",
        "0.300 ± 0.071",
    ]
    gate = text.partition("## Distance of the query gate")[2]
    assert line_of(gate, "din")[1:] == ["0.1250 ± 0.0000"]


def arguments_of(path: Path, **changes: Any) -> argparse.Namespace:
    given: dict[str, Any] = {
        "grid": str(path),
        "overrides": [],
        "only": [],
        "seeds": [],
        "results": None,
        "report": False,
        "diagnostics": False,
        "background": False,
    }
    return argparse.Namespace(**{**given, **changes})


def test_the_tables_are_of_the_whole_grid_whatever_is_asked_for(tmp_path: Path) -> None:
    path = write_grid(tmp_path, set=EDGES, models=MODELS)
    assert experiment.main(arguments_of(path, only=["din"], seeds=[3], report=True)) == 0
    text = (tmp_path / "root" / "small" / "report.md").read_text(encoding="utf-8")
    assert line_of(text, "pooled", "0")[2] == "not run"
    assert "din seed 3, wide seed 1" in text


def test_a_wrong_model_is_said_before_part_of_the_grid_goes_to_the_background(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"wrong": {"set": {"model.nonsense": 1}}}
    path = write_grid(tmp_path, set=EDGES, models={**MODELS, **wrong})
    assert experiment.main(arguments_of(path, only=["din"], background=True)) == 2
    assert "models.wrong" in capsys.readouterr().err
    assert not (tmp_path / "root").exists()
