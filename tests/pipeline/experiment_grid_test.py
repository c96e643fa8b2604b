"""Tests of grids: what a file may say, what each cell becomes, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.experiments.grid import Grid, load_grid
from schemas.loading import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))


def write_grid(folder: Path, **changes: Any) -> Path:
    """Writes a small grid; ``changes`` replace its keys."""
    values: dict[str, Any] = {
        "name": "small",
        "config": {
            "run": {"root": str(folder / "root")},
            "data": {"dataset": "simulated", "path": str(folder / "raw")},
        },
        "set": {"train.max_epochs": 1},
        "seeds": [1, 2],
        "models": {
            "pooled": {"set": {"model.backbone": "pooled"}},
            "din": {"base": "pooled", "set": {"model.backbone": "din"}},
        },
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}, sort_keys=False), encoding="utf-8")
    return path


def test_every_model_is_resolved_with_every_seed(tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path))
    assert list(grid.cells) == [("pooled", 1), ("pooled", 2), ("din", 1), ("din", 2)]
    for (name, seed), cell in grid.cells.items():
        assert cell.config.model.backbone.value == name
        assert cell.config.train.seed == cell.seed == seed
        assert cell.config.train.max_epochs == 1
    assert len({cell.config_hash for cell in grid.cells.values()}) == 4
    assert grid.bases("din") == ("pooled",)
    assert grid.bases("pooled") == ()
    assert grid.root == tmp_path / "root"


def test_a_base_config_is_found_from_the_folder_of_the_grid(tmp_path: Path) -> None:
    folder = tmp_path / "grids"
    folder.mkdir()
    run = {"run": {"root": "elsewhere"}, "data": {"dataset": "simulated", "path": "raw"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    grid = load_grid(write_grid(folder, config="../run.yaml"))
    assert grid.root == Path("elsewhere").resolve()


def test_settings_apply_in_order_and_the_command_line_is_last(tmp_path: Path) -> None:
    path = write_grid(
        tmp_path,
        set={"model.embedding_dim": 8, "model.dropout": 0.1},
        models={"a": {"set": {"model.embedding_dim": 16}}, "b": {}},
    )
    grid = load_grid(path, ["model.dropout=0.3"])
    assert grid.cells["a", 1].config.model.embedding_dim == 16
    assert grid.cells["b", 1].config.model.embedding_dim == 8
    assert {cell.config.model.dropout for cell in grid.cells.values()} == {0.3}


def test_only_and_seeds_choose_cells_and_order_comes_first(tmp_path: Path) -> None:
    path = write_grid(tmp_path, order=["din"])
    assert load_grid(path).models == ("din", "pooled")
    assert list(load_grid(path, only=["pooled"], seeds=[7]).cells) == [("pooled", 7)]


def test_cells_that_differ_in_the_model_share_an_example_set(tmp_path: Path) -> None:
    models = {
        "din": {"set": {"model.backbone": "din"}},
        "pooled": {"set": {"model.backbone": "pooled", "model.embedding_dim": 4}},
        "concat": {"set": {"model.backbone": "din", "model.action_fusion": "concat"}},
        "hidden": {"set": {"model.backbone": "din", "model.action_fusion": "none"}},
        "click_only": {"set": {"data.history.protocol": "click_only"}},
        "rare": {"set": {"model.vocabulary_min_count": 1}},
        "shorter": {"set": {"data.history.max_length": 10}},
    }
    grid = load_grid(write_grid(tmp_path, models=models, seeds=[1]))
    keys = {name: cell.example_key for (name, _), cell in grid.cells.items()}
    assert keys["din"] == keys["pooled"] == keys["concat"] == keys["hidden"]
    assert len(set(keys.values())) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "sedes: unknown key; did you mean 'seeds'?"),
        ({"seeds": [1, 1]}, "seeds [1, 1]: one or more different seeds"),
        ({"seeds": []}, "seeds []"),
        ({"models": {}}, "models: at least one"),
        ({"models": {"a b": {}}}, "name 'a b'"),
        ({"models": {"a": {"base": "z"}}}, "models.a.base 'z': no such model; a are accepted"),
        ({"models": {"a": {"base": "a"}}}, "cannot be its own base"),
        ({"order": ["z"]}, "order 'z': no such model"),
        ({"set": {"train.seed": 3}}, "train.seed is what `seeds` is for"),
        ({"set": {"backbone": "din"}}, "set 'backbone': section.key is expected"),
        ({"set": {"push.destination": "x"}}, "set 'push.destination': section.key is expected"),
        ({"set": {"train.learning_rat": 1}}, "models.din: resolved: train.learning_rat: unknown"),
        (
            {"models": {"a": {"set": {"model.backbone": "bert"}}}},
            "models.a: resolved: model.backbone",
        ),
        ({"set": {"data.snapshot": "latest"}}, "an experiment needs fixed data"),
        ({"set": {"train.warm_start": "latest"}}, "cells start from nothing; none is accepted"),
        ({"set": {"train.export_tables": "int8"}}, "trained tables are scored, not an export's"),
        ({"short_history": 0}, "short_history 0"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_a_wrong_grid_is_refused_with_what_is_accepted(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_grid(write_grid(tmp_path, **changes))
    assert message in str(caught.value)


def test_all_wrong_models_are_named_at_once(tmp_path: Path) -> None:
    models = {
        "one": {"set": {"model.dropout": 2}},
        "two": {"set": {"train.batch_size": 0}},
        "good": {},
    }
    with pytest.raises(ConfigError) as caught:
        load_grid(write_grid(tmp_path, models=models))
    assert "models.one" in str(caught.value)
    assert "models.two" in str(caught.value)
    assert "models.good" not in str(caught.value)


def test_one_root_for_all_models(tmp_path: Path) -> None:
    models: dict[str, Any] = {"a": {"set": {"run.root": "x"}}, "b": {"set": {"run.root": "y"}}}
    with pytest.raises(ConfigError, match=r"run\.root must be the same"):
        load_grid(write_grid(tmp_path, models=models))


def test_one_set_of_buckets_for_all_models(tmp_path: Path) -> None:
    models: dict[str, Any] = {"a": {}, "b": {"set": {"data.length_edges": [5, 50]}}}
    with pytest.raises(ConfigError, match=r"data\.length_edges must be the same .*\[5, 50\]"):
        load_grid(write_grid(tmp_path, models=models))


@pytest.mark.parametrize("arguments", [{"only": ["z"]}, {"overrides": ["train.seed=3"]}])
def test_wrong_choices_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--only 'z'|use --seeds"):
        load_grid(write_grid(tmp_path), **arguments)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_grids_can_be_run(path: Path) -> None:
    grid = load_grid(path, ["run.root=somewhere"])
    assert grid.name == path.stem
    assert {cell.config.train.max_epochs for cell in grid.cells.values()} <= {1, 2}
    assert grid.seeds == ((1,) if grid.name.startswith("tune") else (1, 2, 3))
    assert len({cell.config_hash for cell in grid.cells.values()}) == len(grid.cells)
    if grid.name.startswith("tune"):
        assert len(grid.models) <= 12


def test_the_protocol_grid_builds_one_set_a_protocol() -> None:
    grid = load_grid(ROOT / "configs" / "experiments" / "protocols.yaml")
    keys = {name: cell.example_key for (name, _), cell in grid.cells.items()}
    protocols = {key: set() for key in keys.values()}  # type: dict[str, set[str]]
    for (name, _), cell in grid.cells.items():
        protocols[keys[name]].add(cell.config.data.history.protocol.value)
    assert all(len(found) == 1 for found in protocols.values())
    assert len(protocols) == 4  # three protocols, and the model that reads no history


def test_a_wrong_grid_exits_2_at_once_and_imports_no_framework(tmp_path: Path) -> None:
    path = write_grid(tmp_path, set={"model.nonsense": 1})
    script = (
        "import sys\nfrom pipeline.cli import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'pandas'} & set(sys.modules)\n"
        "print(code, sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "experiment", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "2 []"
    assert "model.nonsense: unknown key" in done.stderr


def test_missing_data_exit_2_before_anything_is_trained(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "experiment", str(write_grid(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "no file matches" in done.stderr
    assert not (tmp_path / "root" / "results.jsonl").exists()


def test_a_task_gives_the_cell_back(tmp_path: Path) -> None:
    from pipeline.config import RunConfig
    from pipeline.experiments.grid import make_cell
    from schemas.loading import build, to_plain

    grid: Grid = load_grid(write_grid(tmp_path))
    cell = grid.cells["din", 2]
    plain = json.loads(json.dumps(to_plain(cell.config)))
    again = make_cell("din", build(RunConfig, plain, where="task"))
    assert again.config_hash == cell.config_hash
    assert again.example_key == cell.example_key
