"""Configuration of the search, free of any framework."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.config import TRANSFORM_KEYS
from schemas.loading import STRICT

_SECTIONS = ("model", "train")
# They change no score of a trial, or what is compared.
_NEVER = (
    "train.workers",
    "train.stall_minutes",
    "train.checkpoint_minutes",
    "train.warm_start",
    "train.metric",
    "train.refit",
    "train.export_tables",
)


class Scale(str, enum.Enum):
    """How the values of a range are drawn."""

    LINEAR = "linear"
    LOG = "log"


class Algorithm(str, enum.Enum):
    """How KerasTuner chooses what to try next."""

    BAYESIAN = "bayesian"
    RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class SearchedKey:
    """Values that a key may take: a range or a list.

    Attributes:
        min: smallest value.
        max: largest value; whole numbers are tried only, if the key is one.
        scale: ``linear``, or ``log`` for a range over orders of magnitude.
        choices: the values, of any kind.
    """

    __pydantic_config__ = STRICT

    min: int | float | None = None
    max: int | float | None = None
    scale: Scale = Scale.LINEAR
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        has_range = self.min is not None or self.max is not None
        if has_range == bool(self.choices):
            raise ValueError("either min and max or choices are accepted")
        if self.choices:
            texts = [json.dumps(choice, sort_keys=True) for choice in self.choices]
            if len(set(texts)) < 2 or len(set(texts)) < len(texts):
                raise ValueError(f"choices {list(self.choices)}: two different values or more")
            if self.scale is not Scale.LINEAR:
                raise ValueError(f"scale {self.scale.value}: with min and max only")
            return
        if self.min is None or self.max is None:
            raise ValueError(f"min {self.min}, max {self.max}: both are needed")
        if not (math.isfinite(self.min) and math.isfinite(self.max) and self.min < self.max):
            raise ValueError(f"min {self.min}, max {self.max}: min below max is accepted")
        if self.scale is Scale.LOG and self.min <= 0:
            raise ValueError(f"min {self.min} with scale log: above 0 is accepted")

    def is_whole(self, current: Any) -> bool:
        """Returns whether only whole numbers of the range are tried.

        Args:
            current: value that the key has without a search.
        """
        bounds = (self.min, self.max)
        return all(isinstance(bound, int) for bound in bounds) and not isinstance(current, float)

    def samples(self, current: Any) -> tuple[Any, ...]:
        """Returns values that the configuration has to accept: all choices, or some of the range.

        Args:
            current: value that the key has without a search.
        """
        if self.min is None or self.max is None:
            return self.choices
        if self.is_whole(current):
            return self.min, self.max
        # No end of the range: a whole number is refused for its fraction only.
        return self.min, self.max, self.min + (self.max - self.min) * 0.4142


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """The ``tune`` section of a run.

    Attributes:
        trials: trainings at most.
        algorithm: ``bayesian`` (a Gaussian process) or ``random``.
        seed: of the choices; a resumed search goes on with them.
        keys: by dotted key of the model and train sections, the values to try.
    """

    __pydantic_config__ = STRICT

    trials: int = 20
    algorithm: Algorithm = Algorithm.BAYESIAN
    seed: int = 1
    keys: Mapping[str, SearchedKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials {self.trials}: at least 1 is accepted")
        if not 1 <= self.seed < 2**31:
            raise ValueError(f"seed {self.seed}: 1 to {2**31 - 1} is accepted")
        for key in self.keys:
            section, _, name = key.partition(".")
            if section not in _SECTIONS or not name:
                raise ValueError(f"keys.{key}: keys of {' and '.join(_SECTIONS)} are accepted")
            if section == "model" and name.partition(".")[0] in TRANSFORM_KEYS:
                raise ValueError(
                    f"keys.{key}: Transform depends on it, and all trials read the same examples; "
                    "`lengthwise experiment` compares such keys"
                )
            if key in _NEVER:
                raise ValueError(f"keys.{key}: no trial scores better or worse by it")


def look_up(plain: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a dotted key in a nested mapping; None if there is none."""
    node: Any = plain
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
