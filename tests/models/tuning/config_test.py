"""Tests of the ``tune`` section."""

from __future__ import annotations

from typing import Any

import pytest

from models.tuning.config import TuneConfig
from schemas.loading import ConfigError, build


def read(**keys: Any) -> TuneConfig:
    return build(TuneConfig, {"keys": keys}, where="tune")


@pytest.mark.parametrize(
    ("searched", "message"),
    [
        ({}, "either min and max or choices are accepted"),
        ({"min": 1, "choices": [1, 2]}, "either min and max or choices are accepted"),
        ({"min": 1}, "min 1, max None: both are needed"),
        ({"min": 2, "max": 2}, "min 2, max 2: min below max is accepted"),
        ({"min": 0, "max": float("inf")}, "min below max is accepted"),
        ({"min": 0, "max": 1, "scale": "log"}, "min 0 with scale log: above 0 is accepted"),
        ({"choices": [1]}, "two different values or more"),
        ({"choices": [1, 2, 1]}, "two different values or more"),
        ({"choices": [1, 2], "scale": "log"}, "scale log: with min and max only"),
        ({"min": 1, "maximum": 3}, "maximum: unknown key; did you mean 'min'|'max'"),
    ],
)
def test_bad_values_are_refused(searched: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**{"train.learning_rate": searched})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data.shards", "keys.data.shards: keys of model and train are accepted"),
        ("model", "keys.model: keys of model and train"),
        ("model.vocabulary_min_count", "Transform depends on it"),
        ("train.workers", "no trial scores better or worse by it"),
        ("train.refit", "no trial scores better or worse by it"),
        ("train.export_tables", "no trial scores better or worse by it"),
    ],
)
def test_keys_that_no_trial_could_change_are_refused(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**{key: {"choices": [1, 2]}})


@pytest.mark.parametrize("change", [{"trials": 0}, {"seed": 0}, {"algorithm": "grid"}])
def test_bad_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        build(TuneConfig, change, where="tune")
