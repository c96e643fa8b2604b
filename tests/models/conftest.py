"""A small model, trained and exported once for all tests that need one."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class TinyRun:
    """What the trainer was given and left.

    Attributes:
        folder: everything of the run.
        id_type: int or string.
        custom_config: what Transform and Trainer were given.
        files: patterns of the transformed examples by split.
        rows: raw rows by split.
        summary: the trainer's summary.
    """

    folder: Path
    id_type: str
    custom_config: dict[str, str]
    files: dict[str, str]
    rows: dict[str, Any]
    summary: dict[str, Any]

    @property
    def graph(self) -> str:
        """Folder of the Transform graph."""
        return str(self.folder / "graph")

    @property
    def model(self) -> str:
        """Folder of the SavedModel."""
        return str(self.folder / "model" / "Format-Serving")

    def fn_args(self, folder: Path, **changes: Any) -> Any:
        """Arguments of ``run_fn`` that write to ``folder``."""
        values = {
            "custom_config": self.custom_config,
            "transform_graph_path": self.graph,
            "train_files": [self.files["train"]],
            "eval_files": [self.files["validation"]],
            "model_run_dir": str(folder / "run"),
            "serving_model_dir": str(folder / "model" / "Format-Serving"),
        }
        return types.SimpleNamespace(**{**values, **changes})


@pytest.fixture(scope="session", params=["int", "string"])
def tiny_run(request: pytest.FixtureRequest, build_once: Callable[..., Any]) -> TinyRun:
    """A din ranker trained for two epochs on 5,000 rows, with ids of each type."""
    return shared_run(build_once, request.param)


@pytest.fixture(scope="session")
def int_run(build_once: Callable[..., Any]) -> TinyRun:
    """The same with integer ids only, for what does not depend on the type."""
    return shared_run(build_once, "int")


def shared_run(build_once: Callable[..., Any], id_type: str) -> TinyRun:
    """The run of a type of ids, which all tests share."""
    run = build_once(f"tiny_run_{id_type}", lambda folder: make_tiny_run(folder, id_type))
    assert isinstance(run, TinyRun)
    return run


def make_tiny_run(folder: Path, id_type: str) -> TinyRun:
    """Runs Transform and the trainer."""
    from models.trainer import run_fn
    from tests.models import fixtures

    config = fixtures.custom_config(
        fixtures.make_description(id_type),
        {"embedding_init_std": 0.3},
        {"batch_size": 64, "learning_rate": 0.01, "table_learning_rate": 0.03},
    )
    rows = {
        "train": fixtures.make_rows(5000, id_type=id_type),
        "validation": fixtures.make_rows(600, seed=1, id_type=id_type),
    }
    schema = fixtures.make_schema(id_type, ragged=id_type == "string")
    _, files = fixtures.run_transform(folder, rows, config, schema)
    run = TinyRun(folder, id_type, config, files, rows, {})
    run_fn(run.fn_args(folder))
    run.summary.update(json.loads((folder / "run" / "training_summary.json").read_text()))
    return run
