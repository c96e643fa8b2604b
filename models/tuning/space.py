"""Searched keys as KerasTuner's hyperparameters, and their values as those of the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras_tuner

from models.tuning.config import SearchedKey, TuneConfig, look_up


def make_space(tune: TuneConfig, plain: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Makes the search space.

    Args:
        tune: the ``tune`` section.
        plain: the configuration that the trials start from.
    """
    space = keras_tuner.HyperParameters()
    for key, searched in tune.keys.items():
        if searched.choices:
            _add_choices(space, key, searched)
        elif searched.is_whole(look_up(plain, key)):
            space.Int(key, searched.min, searched.max, sampling=searched.scale.value)
        else:
            space.Float(key, searched.min, searched.max, sampling=searched.scale.value)
    return space


def read_values(tune: TuneConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a trial as the configuration has them, by dotted key."""
    return {
        key: json.loads(values[key])
        if searched.choices and not are_numbers(searched.choices)
        else values[key]
        for key, searched in tune.keys.items()
    }


def are_numbers(choices: tuple[Any, ...]) -> bool:
    """Returns whether choices are numbers of one type, whose order means something."""
    return {type(choice) for choice in choices} in ({int}, {float})


def _add_choices(space: keras_tuner.HyperParameters, key: str, searched: SearchedKey) -> None:
    if are_numbers(searched.choices):
        space.Choice(key, list(searched.choices), ordered=True)
    else:
        # KerasTuner knows numbers, texts and booleans of one type only.
        texts = [json.dumps(choice, sort_keys=True) for choice in searched.choices]
        space.Choice(key, texts, ordered=False)
