"""Tests of a search that ends without trials."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from components.errors import DataRefused
from pipeline import create_tuning, prepare, runner
from pipeline.commands import tune


def test_a_search_whose_data_the_gate_refused_marks_the_snapshot_as_a_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise DataRefused("the data was refused for 1 reason:")

    marked = []
    prepared = argparse.Namespace(
        root=tmp_path, config=argparse.Namespace(run=argparse.Namespace(beam_args=()))
    )
    monkeypatch.setattr(prepare, "prepare", lambda config: prepared)
    monkeypatch.setattr(create_tuning, "create_tuning_pipeline", lambda *_: None)
    monkeypatch.setattr(runner.WatchedDagRunner, "run", refuse)
    monkeypatch.setattr(runner, "mark_snapshot", lambda root, refused: marked.append(refused))
    arguments = argparse.Namespace(
        config="configs/demo.yaml",
        overrides=[f"run.root={tmp_path}/run", "tune.keys={train.learning_rate: {min: 1, max: 2}}"],
    )
    assert tune.main(arguments) == 3
    assert marked == [True]


def test_a_search_over_values_that_are_not_accepted_is_refused_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = argparse.Namespace(
        config="configs/demo.yaml",
        overrides=[f"run.root={tmp_path}/run", "tune.keys={model.backbone: {choices: [din, dim]}}"],
    )
    assert tune.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("lengthwise: tune.keys.model.backbone: 'dim' cannot be tried; ")
    assert not (tmp_path / "run").exists()
