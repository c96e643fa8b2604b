"""The configuration of a run: sections that live with their packages, nested and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from beam_jobs.config import DataConfig
from components.config import EvaluationConfig, PushConfig
from models.config import ModelConfig, TrainConfig
from models.tuning.config import TuneConfig, look_up
from schemas.loading import (
    STRICT,
    ConfigError,
    apply_overrides,
    build,
    read_yaml,
    set_keys,
    to_plain,
)
from serving.canary.config import CanaryConfig


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """The ``run`` section.

    Attributes:
        name: name of the pipeline, in the metadata store.
        root: folder that everything of a run is written under.
        beam_args: flags for Beam, such as ``--runner=FlinkRunner``; in memory if empty.
    """

    __pydantic_config__ = STRICT

    name: str = "lengthwise"
    root: str
    beam_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in ("name", "root"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key}: a text is expected, found an empty one")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, from raw log to pushed model.

    Attributes:
        run: where it is written.
        data: the raw log, its histories and splits.
        model: the axes of the model.
        train: how it is trained.
        evaluation: what it must reach.
        canary: what it must show in a server.
        push: where a good model goes.
        tune: what a search tries; a run does not read it.
    """

    __pydantic_config__ = STRICT

    run: RunSection
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    push: PushConfig = field(default_factory=PushConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        self.model.fusion(self.data.history.protocol.value)

    @property
    def destination(self) -> Path:
        """Folder that models are pushed to."""
        return Path(self.push.destination or Path(self.run.root) / "serving")


def check_searched_keys(config: RunConfig) -> None:
    """Refuses a search over values that the configuration does not accept.

    Combinations of several keys are not tried; a trial that cannot be is passed over. Only a search
    asks for this: a run or an experiment with another backbone does not read the section.

    Raises:
        ConfigError: names the key and the value.
    """
    plain = {**to_plain(config), "tune": {}}
    for key, searched in config.tune.keys.items():
        section = key.rpartition(".")[0]
        if look_up(plain, section) is None:
            name = section.rpartition(".")[2]
            raise ConfigError(f"tune.keys.{key}: {name} is None here, not a section")
        for value in searched.samples(look_up(plain, key)):
            try:
                build(RunConfig, set_keys(plain, {key: value}), where="there")
            except ValueError as error:
                raise ConfigError(f"tune.keys.{key}: {value!r} cannot be tried; {error}") from error


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Loads a run's YAML file and applies ``section.key=value`` settings on top.

    Relative paths stay relative to the working folder.

    Raises:
        ConfigError: names every key at fault, what was found and what is accepted.
    """
    values = apply_overrides(read_yaml(Path(path)), overrides)
    return build(RunConfig, values, where=str(path))


def to_yaml(config: RunConfig) -> str:
    """Returns the resolved configuration, every default filled in."""
    return yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
