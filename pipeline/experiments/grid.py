"""A grid of models and seeds, every cell resolved and checked before anything runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import ModelConfig, TablePrecision
from models.embedding_widths import separate_tables
from models.plan import CUSTOM_CONFIG_KEY, RankerPlan, make_plan
from pipeline.config import RunConfig
from pipeline.experiments.grid_file import SEED_KEY, GridFile, load_file
from schemas.dataset import DatasetDescription, load_description
from schemas.loading import ConfigError, apply_overrides, build, read_yaml, set_keys, to_plain

SECTIONS = ("data", "model", "train")
# What of a model decides how examples are transformed; actions are there for all that may read
# them.
TRANSFORM_KEYS = (
    "inputs",
    "inputs_excluded",
    "extra_inputs",
    "vocabulary_min_count",
    "vocabulary_expiry_days",
    "hash_buckets",
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training of one model.

    Attributes:
        model: name of the model in the grid.
        config: the resolved run; its seed is the cell's.
        description: the dataset.
        transform_plan: what its example set holds, which other cells may share.
    """

    model: str
    config: RunConfig
    description: DatasetDescription
    transform_plan: RankerPlan

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.train.seed

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.model} seed {self.seed}"

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The sections that the result depends on, as plain values."""
        plain = to_plain(self.config)
        return {section: plain[section] for section in SECTIONS}

    @functools.cached_property
    def config_hash(self) -> str:
        """Identifies the settings."""
        return digest(self.settings)

    @functools.cached_property
    def example_key(self) -> str:
        """Identifies the example set."""
        return digest([self.settings["data"], to_plain(self.transform_plan)])

    @property
    def examples_config(self) -> RunConfig:
        """The run that the example set is built by."""
        return dataclasses.replace(self.config, model=_transform_model(self.config.model))

    @property
    def custom_config(self) -> dict[str, str]:
        """What ``models.plan.read_run_config`` reads."""
        values = {
            "description": to_plain(self.description),
            "data": {
                "history": self.settings["data"]["history"],
                "pack_impressions": self.config.data.pack_impressions,
            },
            "model": self.settings["model"],
            "train": self.settings["train"],
        }
        return {CUSTOM_CONFIG_KEY: json.dumps(values, sort_keys=True)}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid, resolved and checked.

    Attributes:
        file: what its file says.
        seeds: those asked for.
        models: names of those asked for, in the order in which they are trained.
        cells: by model name and seed, in the same order; every seed of a model, then the next.
        root: folder that everything of its experiments is written under.
    """

    file: GridFile
    seeds: tuple[int, ...]
    models: tuple[str, ...]
    cells: Mapping[tuple[str, int], Cell]
    root: Path

    @property
    def name(self) -> str:
        """Name of the grid."""
        return self.file.name

    def bases(self, model: str) -> tuple[str, ...]:
        """Names of the models that ``model`` is compared with."""
        return self.file.models[model].bases


def load_grid(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Grid:
    """Reads a grid and resolves the configuration of every cell.

    Args:
        path: YAML file of the grid.
        overrides: ``section.key=value`` settings on top of everything in the files.
        only: names of models; all of them if empty.
        seeds: instead of those of the file.

    Raises:
        ConfigError: names every cell and key at fault, what was found and what is accepted.
    """
    path = Path(path)
    file = load_file(path)
    if any(override.partition("=")[0].strip() == SEED_KEY for override in overrides):
        raise ConfigError(f"--set {SEED_KEY}: use --seeds")
    for name in only:
        if name not in file.models:
            raise ConfigError(f"--only {name!r}: {', '.join(file.models)} are accepted")
    base = _base_config(file, path)
    names = list(dict.fromkeys([*file.order, *file.models]))
    chosen_seeds = tuple(dict.fromkeys(seeds)) or file.seeds
    cells: dict[tuple[str, int], Cell] = {}
    problems: list[str] = []
    for name in names:
        if only and name not in only:
            continue
        try:
            first = _resolve(file, base, name, overrides, chosen_seeds[0])
            for seed in chosen_seeds:
                train = dataclasses.replace(first.config.train, seed=seed)
                config = dataclasses.replace(first.config, train=train)
                cells[name, seed] = dataclasses.replace(first, config=config)
        except (ConfigError, ValueError) as error:
            problems += [f"{path}: models.{name}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    _check_buckets(path, cells.values())
    roots = {cell.config.run.root for cell in cells.values()}
    if len(roots) > 1:
        raise ConfigError(f"{path}: run.root must be the same for all models, found {roots}")
    return Grid(
        file=file,
        seeds=chosen_seeds,
        models=tuple(dict.fromkeys(name for name, _ in cells)),
        cells=cells,
        root=Path(roots.pop()).resolve(),
    )


def _check_buckets(path: Path, cells: Collection[Cell]) -> None:
    for key in ("length_edges", "density_edges"):
        found = {getattr(cell.config.data, key) for cell in cells}
        if len(found) > 1:
            raise ConfigError(
                f"{path}: data.{key} must be the same for all models, which the tables compare by "
                f"bucket, found {sorted(map(list, found))}"
            )


def make_cell(model: str, config: RunConfig) -> Cell:
    """Makes a cell of a resolved run.

    Raises:
        ConfigError: there is no such dataset description, or it is wrong.
        ValueError: model and dataset do not fit.
    """
    description = _description(config.data.dataset)
    history = config.data.history
    plan, shared = (
        make_plan(description, section, history.protocol.value, history.max_length)
        for section in (config.model, _transform_model(config.model))
    )
    if dataclasses.replace(plan, fusion=shared.fusion) != shared:
        raise ValueError(
            f"model: its inputs follow from more than {', '.join(TRANSFORM_KEYS)}, so that it "
            "cannot be trained on a shared example set"
        )
    return Cell(model=model, config=config, description=description, transform_plan=shared)


def digest(values: Any) -> str:
    """Returns a short hash of plain values."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _transform_model(model: ModelConfig) -> ModelConfig:
    kept = {key: getattr(model, key) for key in TRANSFORM_KEYS}
    return ModelConfig(**kept, **separate_tables(model))


def _base_config(file: GridFile, path: Path) -> dict[str, Any]:
    if isinstance(file.config, str):
        return read_yaml(path.parent / file.config)
    return dict(file.config)


def _resolve(
    file: GridFile, base: dict[str, Any], name: str, overrides: Sequence[str], seed: int
) -> Cell:
    values = _apply(base, {**file.set, **file.models[name].set, SEED_KEY: seed})
    config = build(RunConfig, apply_overrides(values, overrides), where="resolved")
    if config.data.snapshot == "latest":
        raise ConfigError("data.snapshot latest: an experiment needs fixed data; none or a path")
    if config.data.allow_empty:
        raise ConfigError("data.allow_empty: an experiment needs all three splits")
    train = config.train
    if train.warm_start != "none":
        raise ConfigError(
            f"train.warm_start {train.warm_start}: cells start from nothing; none is accepted"
        )
    if train.export_tables is not TablePrecision.FLOAT32:
        raise ConfigError(
            f"train.export_tables {train.export_tables.value}: the trained tables are scored, not "
            "an export's; float32 is accepted"
        )
    return make_cell(name, config)


def _apply(values: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    for key in settings:
        section = key.partition(".")[0]
        if section not in ("run", *SECTIONS) or section == key:
            raise ConfigError(f"set {key!r}: section.key is expected, of run, data, model or train")
    return set_keys(values, to_plain(settings))


@functools.cache
def _description(dataset: str) -> DatasetDescription:
    return load_description(dataset)
