"""Tests of a search that ends without trials."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.snapshot import REFUSED
from components.errors import DataRefused
from pipeline import collect
from pipeline.commands import tune
from pipeline.summary import Summary


def test_the_snapshot_of_data_that_the_gate_refused_is_marked_as_by_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise DataRefused("the data was refused for 1 reason:")

    def find(summary: Summary, root: Path) -> None:
        summary.snapshot = str(tmp_path)

    monkeypatch.setattr(tune, "_search", refuse)
    monkeypatch.setattr(collect, "collect", find)
    arguments = argparse.Namespace(
        config="configs/demo.yaml",
        overrides=[f"run.root={tmp_path}/run", "tune.keys={train.learning_rate: {min: 1, max: 2}}"],
    )
    assert tune.main(arguments) == 3
    assert (tmp_path / REFUSED).exists()
