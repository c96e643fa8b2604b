"""Tests of where a search keeps its state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RunConfig
from pipeline.create_tuning import state_folder
from pipeline.prepare import Prepared
from schemas.dataset import load_description
from schemas.loading import build, set_keys, to_plain


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    plain: dict[str, Any] = {
        "run": {"root": str(tmp_path)},
        "data": {"dataset": "simulated", "path": "raw"},
        "tune": {"trials": 2, "keys": {"train.learning_rate": {"min": 1e-3, "max": 1e-2}}},
    }
    return Prepared(
        config=build(RunConfig, plain, where="test"),
        description=load_description("simulated"),
        plan=None,  # type: ignore[arg-type]
        fingerprint="log-settings",
        snapshot_fingerprint="",
        schema=tmp_path / "simulated-1.pbtxt",
    )


def with_setting(prepared: Prepared, key: str, value: Any) -> Prepared:
    plain = set_keys(to_plain(prepared.config), {key: value})
    return dataclasses.replace(prepared, config=build(RunConfig, plain, where="test"))


def test_a_search_goes_on_with_more_trials(prepared: Prepared) -> None:
    assert state_folder(with_setting(prepared, "tune.trials", 5)) == state_folder(prepared)


def test_other_examples_values_or_settings_are_another_search(prepared: Prepared) -> None:
    others = [
        dataclasses.replace(prepared, fingerprint="log-other"),
        dataclasses.replace(prepared, snapshot_fingerprint="yesterday"),
        dataclasses.replace(prepared, schema=prepared.schema.with_name("simulated-2.pbtxt")),
        with_setting(prepared, "model.backbone", "pooled"),
        with_setting(prepared, "tune.seed", 2),
        with_setting(prepared, "tune.keys", {"train.learning_rate": {"min": 1e-3, "max": 1e-1}}),
    ]
    folders = {state_folder(one) for one in [prepared, *others]}
    assert len(folders) == len(others) + 1
