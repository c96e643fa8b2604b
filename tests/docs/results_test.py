"""docs/results/ holds rows that the shipped grids find, whatever machine they were made on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments.grid import load_grid
from pipeline.experiments.results import ResultsFile, read_lines

ROOT = Path(__file__).parents[2]
ROWS = sorted((ROOT / "docs" / "results").glob("*.jsonl"))
GRIDS = ROOT / "configs" / "experiments"
# What docs/results.md says to give, for the folder of the data.
DATA = "kuairand_pure_slice"


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_rows_name_no_folder_of_the_machine_that_made_them(path: Path) -> None:
    rows = read_lines(path)
    assert rows
    assert {row["config"]["data"]["path"] for row in rows} == {DATA}
    assert not [text for row in rows for text in texts(row) if text.startswith(("/", "~"))]


@pytest.mark.parametrize(
    "path", [path for path in ROWS if (GRIDS / f"{path.stem}.yaml").exists()], ids=lambda p: p.stem
)
def test_the_grid_of_the_same_name_finds_the_rows(path: Path) -> None:
    results = ResultsFile(path)
    seeds = sorted({row["seed"] for row in read_lines(path)})
    grid = load_grid(
        GRIDS / f"{path.stem}.yaml", [f"data.path={DATA}", "run.root=nowhere"], seeds=seeds
    )
    found = {(model, seed) for (model, seed), cell in grid.cells.items() if results.find(cell)}
    expected = {(r["model"], r["seed"]) for r in read_lines(path) if r["grid"] == path.stem}
    assert expected
    assert expected <= found
