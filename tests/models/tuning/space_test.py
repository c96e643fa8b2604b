"""Tests of the search space."""

from __future__ import annotations

from typing import Any

from models.tuning.config import TuneConfig
from models.tuning.space import make_space, read_values
from schemas.loading import build

PLAIN: dict[str, Any] = {
    "model": {"embedding_dim": 32, "dropout": 0.0, "lain": None, "hidden_units": [8]},
    "train": {"learning_rate": 1e-3, "table_learning_rate": None},
}


def make(keys: dict[str, Any]) -> TuneConfig:
    return build(TuneConfig, {"keys": keys}, where="tune")


def test_ranges_are_whole_where_the_key_is() -> None:
    tune = make(
        {
            "model.embedding_dim": {"min": 8, "max": 64},
            "model.dropout": {"min": 0, "max": 1},
            "train.learning_rate": {"min": 1e-4, "max": 1e-2, "scale": "log"},
            "train.table_learning_rate": {"min": 0.1, "max": 1},
        }
    )
    space = {item.name: item for item in make_space(tune, PLAIN).space}
    kinds = {name: type(item).__name__ for name, item in space.items()}
    assert kinds == {
        "model.embedding_dim": "Int",
        "model.dropout": "Float",
        "train.learning_rate": "Float",
        "train.table_learning_rate": "Float",
    }
    rate = space["train.learning_rate"]
    assert rate.prob_to_value(0.5) == 1e-3  # the middle of a log scale
    assert rate.prob_to_value(0.0) == 1e-4
    assert space["model.embedding_dim"].prob_to_value(0.999) == 64


def test_choices_of_any_kind_come_back_as_they_were() -> None:
    choices = {
        "model.embedding_dim": [16, 64],
        "model.lain": [None, {"prompts": 2}],
        "model.hidden_units": [[8], [16, 8]],
    }
    tune = make({key: {"choices": values} for key, values in choices.items()})
    space = make_space(tune, PLAIN)
    found: dict[str, list[Any]] = {key: [] for key in choices}
    for index in range(2):
        trial = {item.name: item.values[index] for item in space.space}
        for key, value in read_values(tune, trial).items():
            found[key].append(value)
    assert found == choices
