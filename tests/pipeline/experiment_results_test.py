"""Tests of the results file: appended, found again, and safe against a killed writer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments.grid import Cell, load_grid
from pipeline.experiments.results import ResultsFile, append_line, code_version, read_lines
from pipeline.experiments.run import remaining_seconds
from tests.pipeline.experiment_grid_test import write_grid


@pytest.fixture
def cells(tmp_path: Path) -> dict[tuple[str, int], Cell]:
    return dict(load_grid(write_grid(tmp_path)).cells)


def row_of(cell: Cell, **values: Any) -> dict[str, Any]:
    return {"model": cell.model, "seconds": 10.0, "config": cell.settings, **values}


def test_rows_are_appended_and_found_by_their_settings(
    tmp_path: Path, cells: dict[tuple[str, int], Cell]
) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    file = ResultsFile(path)
    assert file.find(cells["din", 1]) is None
    file.append(row_of(cells["din", 1], auc=0.5))
    file.append(row_of(cells["din", 2], auc=0.6))
    for found in (file, ResultsFile(path)):
        row = found.find(cells["din", 2])
        assert row is not None
        assert row["auc"] == 0.6
        assert found.find(cells["pooled", 1]) is None


def test_the_last_of_two_rows_counts(tmp_path: Path, cells: dict[tuple[str, int], Cell]) -> None:
    file = ResultsFile(tmp_path / "results.jsonl")
    for auc in (0.5, 0.7):
        file.append(row_of(cells["din", 1], auc=auc))
    row = file.find(cells["din", 1])
    assert row is not None
    assert row["auc"] == 0.7


def test_a_torn_line_is_left_out_and_the_next_row_is_whole(
    tmp_path: Path, cells: dict[tuple[str, int], Cell]
) -> None:
    path = tmp_path / "results.jsonl"
    append_line(path, row_of(cells["din", 1]))
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"model": "din", "conf')
    append_line(path, row_of(cells["din", 2]))
    assert [row["config"]["train"]["seed"] for row in read_lines(path)] == [1, 2]


def test_a_number_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "results.jsonl", {"auc": float("nan")})
    assert read_lines(tmp_path / "results.jsonl") == []


@pytest.mark.parametrize(
    ("key", "other"), [("model.dropout", 0.4), ("model.lain.prompts", 2), ("train.refit", True)]
)
def test_a_new_option_leaves_earlier_rows_good_where_it_has_its_default(
    tmp_path: Path, key: str, other: Any
) -> None:
    def cell_with(**changes: Any) -> Cell:
        settings = {"model.backbone": "din", "model.lain": {}, **changes}
        grid = load_grid(write_grid(tmp_path, models={"a": {"set": settings}}), seeds=[1])
        return grid.cells["a", 1]

    older = copy.deepcopy(row_of(cell_with()))
    *sections, name = key.split(".")
    section = older["config"]
    for part in sections:
        section = section[part]
    del section[name]  # as if written before there was this key
    append_line(tmp_path / "results.jsonl", older)
    results = ResultsFile(tmp_path / "results.jsonl")
    assert results.find(cell_with()) == older
    assert results.find(cell_with(**{key: other})) is None


def test_a_row_with_a_key_that_is_no_more_is_of_no_cell(
    tmp_path: Path, cells: dict[tuple[str, int], Cell]
) -> None:
    older = copy.deepcopy(row_of(cells["din", 1]))
    older["config"]["model"]["gone"] = 1
    path = tmp_path / "results.jsonl"
    append_line(path, older)
    assert ResultsFile(path).find(cells["din", 1]) is None


def test_time_left_follows_the_same_model_where_it_is_known(
    tmp_path: Path, cells: dict[tuple[str, int], Cell]
) -> None:
    file = ResultsFile(tmp_path / "results.jsonl")
    waiting = [cells["din", 2], cells["pooled", 1]]
    assert remaining_seconds(waiting, file) is None
    file.append(row_of(cells["din", 1], seconds=100.0))
    assert remaining_seconds(waiting, file) == 200.0
    file.append(row_of(cells["pooled", 2], seconds=20.0))
    assert remaining_seconds(waiting, file) == 120.0


def test_the_code_version_names_a_commit_or_nothing() -> None:
    version = code_version()
    assert set(version) == {"commit", "edited"}
    assert version["commit"] is None or len(version["commit"]) == 40
