"""Tests of how cells are run, with workers that only pretend, and of the rows they score."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.errors import InputError
from beam_jobs.simulate import simulate
from models.plan import NUMBERS, Number
from pipeline.experiments import run as run_module
from pipeline.experiments.example_sets import (
    SCORED_ROWS,
    ExampleSet,
    check_inputs,
    find_set,
    set_folder,
    write_json,
)
from pipeline.experiments.example_sets import stamp_of as real_stamp_of
from pipeline.experiments.grid import Grid, load_grid
from pipeline.experiments.results import read_lines
from pipeline.experiments.run import RESULTS, Places, TaskError, duration, run_cells
from pipeline.experiments.scored_rows import ScoredRows
from pipeline.experiments.worker import BUILD, TRAIN, Task
from schemas import features
from schemas.dataset_sections import FieldType, Scale
from tests.models.tiny_training import PLAN
from tests.pipeline.experiment_comparison_test import make_facts
from tests.pipeline.experiment_grid_test import write_grid

MODELS: dict[str, Any] = {
    "a": {"set": {"model.embedding_dim": 4}},
    "b": {"set": {"model.embedding_dim": 8}},
    "like_a": {"set": {"model.embedding_dim": 4}},
    "other_data": {"set": {"data.history.max_length": 7}},
}
FIGURES: dict[str, Any] = {
    "validation": {"auc": 0.71, "gauc": None},
    "test": {"overall": {"auc": 0.7, "gauc": None, "log_loss": 0.6}},
}


def make_set(root: Path, key: str, stamp: str) -> ExampleSet:
    folder = set_folder(root, key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCORED_ROWS).touch()
    made = ExampleSet(
        key=key,
        stamp=stamp,
        train_files="",
        validation_files="",
        test_rows=str(folder / SCORED_ROWS),
        transform_graph="",
        profile="",
        seconds=1.0,
    )
    made.write(folder)
    return made


class Workers:
    """Stands for the worker processes; notes what they were asked to do."""

    def __init__(self, grid: Grid, fails: Callable[[Task], bool] = lambda _: False) -> None:
        self.grid = grid
        self.fails = fails
        self.asked: list[tuple[str, str, int]] = []
        self.keys = {cell.model: cell.example_key for cell in grid.cells.values()}

    def __call__(self, task: Task, places: Places, title: str) -> Any:
        self.asked.append((task.kind, task.model, task.config["train"]["seed"]))
        if self.fails(task):
            raise TaskError("out of luck")
        if task.kind == BUILD:
            cell = next(c for c in self.grid.cells.values() if c.model == task.model)
            return make_set(self.grid.root, self.keys[task.model], real_stamp_of(cell)).key
        return dict(FIGURES)


def go(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Task], bool] = lambda _: False
) -> tuple[Workers, list[tuple[Any, str]], list[str]]:
    workers, said = Workers(grid, fails), list[str]()
    monkeypatch.setattr(run_module, "_work", workers)
    places = Places(root=grid.root, results=grid.root / RESULTS)
    return workers, run_cells(grid, places, said.append), said


def test_each_set_is_built_once_and_equal_cells_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load_grid(write_grid(tmp_path, models=MODELS))
    workers, failed, said = go(grid, monkeypatch)
    assert failed == []
    assert workers.asked == [
        (BUILD, "a", 1),
        (TRAIN, "a", 1),
        (TRAIN, "a", 2),
        (TRAIN, "b", 1),
        (TRAIN, "b", 2),
        (BUILD, "other_data", 1),
        (TRAIN, "other_data", 1),
        (TRAIN, "other_data", 2),
    ]
    rows = read_lines(grid.root / RESULTS)
    assert [(row["model"], row["seed"]) for row in rows] == [
        (name, seed) for name in ("a", "b", "other_data") for seed in (1, 2)
    ]
    assert all(row["example_set"] == grid.cells[row["model"], 1].example_key for row in rows)
    assert "[1/8] a seed 1: AUC 0.7000, GAUC -" in "\n".join(said)
    again, failed, _ = go(grid, monkeypatch)
    assert (again.asked, failed) == ([], [])


def test_a_failed_cell_is_written_down_and_tried_again_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load_grid(write_grid(tmp_path, models=MODELS), only=["a", "b"], seeds=[1])
    _, failed, said = go(grid, monkeypatch, lambda task: task.kind == TRAIN and task.model == "a")
    assert [(cell.model, why) for cell, why in failed] == [("a", "out of luck")]
    assert any("a seed 1: failed: out of luck" in line for line in said)
    [failure] = read_lines(grid.root / "failures.jsonl")
    assert (failure["model"], failure["error"]) == ("a", "out of luck")
    assert [row["model"] for row in read_lines(grid.root / RESULTS)] == ["b"]
    workers, failed, _ = go(grid, monkeypatch)
    assert (workers.asked, failed) == ([(TRAIN, "a", 1)], [])


def test_a_set_that_cannot_be_built_fails_its_cells_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load_grid(write_grid(tmp_path, models=MODELS))
    workers, failed, _ = go(
        grid, monkeypatch, lambda task: task.kind == BUILD and task.model == "a"
    )
    assert [cell.model for cell, _ in failed] == ["a", "a", "b", "b", "like_a", "like_a"]
    assert all("the example set could not be built: out of luck" in why for _, why in failed)
    assert workers.asked.count((BUILD, "a", 1)) == 1
    assert {row["model"] for row in read_lines(grid.root / RESULTS)} == {"other_data"}


def test_an_example_set_is_used_until_its_raw_files_change(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "log.csv").write_text("1")
    grid = load_grid(write_grid(tmp_path), seeds=[1])
    cell = grid.cells["din", 1]
    assert find_set(grid.root, cell) is None
    made = make_set(grid.root, cell.example_key, real_stamp_of(cell))
    assert find_set(grid.root, cell) == made
    (raw / "log.csv").write_text("12")
    assert find_set(grid.root, cell) is None


def test_an_example_set_is_used_until_description_schema_or_snapshot_change(
    tmp_path: Path,
) -> None:
    files = {name: tmp_path / name for name in ("schema.pbtxt", "snapshot/events.parquet")}
    for file in files.values():
        file.parent.mkdir(exist_ok=True)
        file.write_text("1")
    data = {"data.schema": str(files["schema.pbtxt"]), "data.snapshot": str(tmp_path / "snapshot")}
    cell = load_grid(write_grid(tmp_path, set=data), seeds=[1]).cells["din", 1]
    before = real_stamp_of(cell)
    assert real_stamp_of(cell) == before
    later = dataclasses.replace(cell.description.log, timezone="Asia/Tokyo")
    moved = dataclasses.replace(cell.description, log=later)
    stamps = {before, real_stamp_of(dataclasses.replace(cell, description=moved))}
    for file in files.values():
        file.write_text("12")
        stamps.add(real_stamp_of(cell))
    assert len(stamps) == 4


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data.schema", "data.schema: nowhere is no file"),
        ("data.snapshot", r"data.snapshot: .*/nowhere holds no readable snapshot"),
    ],
)
def test_a_missing_schema_or_snapshot_is_said_before_anything_is_trained(
    tmp_path: Path, key: str, message: str
) -> None:
    simulate(tmp_path / "raw", impressions=1_000)
    grid = load_grid(write_grid(tmp_path), seeds=[1])
    check_inputs(grid.cells.values())
    grid = load_grid(write_grid(tmp_path, set={key: "nowhere"}), seeds=[1])
    with pytest.raises(InputError, match=message):
        check_inputs(grid.cells.values())


def test_a_worker_that_dies_leaves_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = load_grid(write_grid(tmp_path))
    script = tmp_path / "dies"
    script.write_text("#!/bin/sh\necho out of memory, it seems\nexit 137\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    places = Places(root=grid.root, results=grid.root / RESULTS)
    task = Task(kind=TRAIN, model="din", config={}, root=str(grid.root))
    with pytest.raises(TaskError, match=r"ended with code 137 .*: out of memory, it seems"):
        run_module._work(task, places, "din-1")
    assert not list((grid.root / "tmp").glob("*"))


def test_a_worker_tells_its_error(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path))
    cell = grid.cells["din", 1]
    places = Places(root=grid.root, results=grid.root / RESULTS)
    task = Task(kind=TRAIN, **run_module._common(cell, places))
    with pytest.raises(TaskError, match="an example set is needed to train, found none"):
        run_module._work(task, places, "din-1")


def test_a_worker_whose_parent_was_killed_while_it_started_ends(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    cell = load_grid(write_grid(tmp_path)).cells["din", 1]
    places = Places(root=tmp_path, results=tmp_path / RESULTS)
    # What it is asked for would fail, but not before seconds of imports.
    task = Task(kind=BUILD, **run_module._common(cell, places), parent=gone.pid)
    write_json(tmp_path / "task.json", dataclasses.asdict(task))
    command = [sys.executable, "-m", "pipeline.experiments.worker"]
    done = subprocess.run(
        [*command, str(tmp_path / "task.json"), str(tmp_path / "outcome.json")],
        env={**os.environ, "PYTHONPATH": run_module.source_path()},
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert not (tmp_path / "outcome.json").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.3, "12 s"), (100, "2 min"), (5399, "1 h 30 min"), (7200, "2 h 00 min")],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def make_rows(count: int) -> ScoredRows:
    lengths = np.arange(count) % 4
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return ScoredRows(
        make_facts(count),
        {
            "numbers": np.arange(2.0 * count, dtype=np.float32).reshape(count, 2),
            "history": (np.arange(splits[-1]), splits),
        },
    )


def test_rows_come_back_from_their_file_in_order(tmp_path: Path) -> None:
    rows = make_rows(10)
    rows.write(tmp_path / "rows.npz")
    again = ScoredRows.read(tmp_path / "rows.npz")
    for name in ("label", "user", "key", "length_bucket"):
        np.testing.assert_array_equal(getattr(again.facts, name), getattr(rows.facts, name))
    batches = list(again.batches(["numbers", "history"], 4))
    assert [len(batch["numbers"]) for batch in batches] == [4, 4, 2]
    joined = tf.concat([batch["history"] for batch in batches], axis=0)
    whole = next(rows.batches(["history"], 10))["history"]
    assert joined.to_list() == whole.to_list()
    assert whole.to_list()[:4] == [[], [0], [1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(batches[1]["numbers"], [[8, 9], [10, 11], [12, 13], [14, 15]])


def test_a_sample_is_evenly_spaced_and_whole_where_there_are_few() -> None:
    rows = make_rows(10)
    assert rows.sample(10) is rows
    some = rows.sample(3)
    np.testing.assert_array_equal(some.facts.key, rows.facts.key[[0, 3, 6]])
    batch = next(some.batches(["numbers", "history"], 3))
    assert batch["history"].to_list() == [[], [3, 4, 5], [7, 8]]
    np.testing.assert_array_equal(batch["numbers"][:, 0], [0, 6, 12])


def test_a_feature_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"features \['tag'\] are not among"):
        next(make_rows(4).batches(["numbers", "tag"], 4))


def test_a_user_is_scored_with_the_history_before_his_first_row() -> None:
    random = np.random.default_rng(4)
    facts = dataclasses.replace(
        make_facts(40, 7), time=random.permutation(40), user=random.integers(0, 7, 40)
    )
    lengths = random.integers(0, 5, 40)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    plan = dataclasses.replace(
        PLAN,
        numbers=(
            Number(name="age", scale=Scale.LOG1P),
            Number(name=features.HISTORY_LENGTH, scale=Scale.LOG1P, dtype=FieldType.INT),
        ),
    )
    numbers = np.stack([np.arange(40), lengths], axis=1).astype(np.float32)
    columns: dict[str, Any] = {
        name: (np.arange(splits[-1]) * 10 + place, splits)
        for place, name in enumerate(plan.history_lists)
    }
    columns |= {NUMBERS: numbers, features.ITEM_ID: np.arange(40)}
    rows = ScoredRows(facts, dict(columns))
    found = next(rows.at_first_impression(plan).batches(list(columns), 40))
    own = next(rows.batches(list(columns), 40))
    for row in range(40):
        same_user = [other for other in range(40) if facts.user[other] == facts.user[row]]
        first = min(same_user, key=lambda other: facts.time[other])
        for name in plan.history_lists:
            assert found[name][row].numpy().tolist() == own[name][first].numpy().tolist()
        # His age and the item stay those of the row.
        assert found[NUMBERS][row].numpy().tolist() == [row, lengths[first]]
        assert found[features.ITEM_ID][row] == row
