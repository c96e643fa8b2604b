"""Tests of loading a run's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config import check_searched_keys, load_config, to_yaml
from schemas.loading import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("run: {root: runs/x}\ndata: {dataset: simulated, path: raw}\n")
    return path


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_shipped_configs_load(name: str) -> None:
    assert load_config(CONFIGS / name).run.root == f"runs/{name.removesuffix('.yaml')}"


def test_set_changes_one_key_and_keeps_the_rest(minimal: Path) -> None:
    config = load_config(minimal, ["train.seed=7", "model.backbone=pooled"])
    assert config.train.seed == 7
    assert config.model.backbone.value == "pooled"
    assert config.data.path == "raw"


def test_resolved_config_loads_to_the_same(minimal: Path, tmp_path: Path) -> None:
    config = load_config(minimal, ["data.history.max_length=17", "train.learning_rate=1e-3"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(to_yaml(config))
    assert load_config(resolved) == config
    assert config.train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.seeed=1", "train.seeed: unknown key; did you mean 'seed'?"),
        ("train.seed=abc", "train.seed"),
        ("data.history.protocol=clicks", "data.history.protocol"),
        ("data.history.max_length=0", "max_length 0"),
        ("model.backbone=transformer", "model.backbone"),
        ("model.extra_inputs=[item_train_count]", "can never be an input"),
        ("model.extra_inputs=[density_bucket]", "can never be an input"),
        ("data.length_edges=[5, 3]", "length_edges"),
        ("data.allow_empty=[dev]", "allow_empty"),
        ("data=1", "data"),
        ("data.earlier_examples=3", "snapshot is none"),
        ("run.root=", "run.root"),
        ("nonsense", "expected section.key=value"),
        ("data.path.deeper=1", "path is a value, not a section"),
    ],
)
def test_bad_settings_name_the_key(minimal: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(minimal, [override])
    assert named in str(caught.value)


def test_action_fusion_needs_typed_exposure(minimal: Path) -> None:
    settings = ["data.history.protocol=click_only", "model.action_fusion=add"]
    with pytest.raises(ConfigError, match="typed_exposure"):
        load_config(minimal, settings)


def test_missing_key_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("run: {root: x}\n")
    with pytest.raises(ConfigError, match="data: this key is required"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load_config(tmp_path / "absent.yaml")
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_every_key_of_the_resolved_config_is_documented() -> None:
    text = (CONFIGS.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    values = yaml.safe_load(to_yaml(load_config(CONFIGS / "demo.yaml")))
    missing = [
        f"{section}.{key}"
        for section, keys in values.items()
        for key in keys
        if f"`{key}`" not in text
    ]
    assert not missing


def test_dates_need_no_quotes(minimal: Path) -> None:
    settings = ["data.split.validation_start=2022-05-05", "data.split.test_start=2022-05-06"]
    split = load_config(minimal, settings).data.split
    assert split is not None
    assert split.validation_start == "2022-05-05"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.learning_rate={min: 0.1, max: 20}",
            r"learning_rate: 20 cannot .*below 10",
        ),
        ("model.embedding_dim={min: 8.5, max: 9.5}", r"embedding_dim: 8\.5 cannot be tried"),
        ("model.embedding_dim={min: 8.0, max: 64.0}", r"embedding_dim: 31\.19\d* cannot be tried"),
        ("model.embeding_dim={min: 8, max: 64}", r"unknown key; did you mean 'embedding_dim'"),
        ("model.backbone={choices: [din, dim]}", r"model\.backbone: 'dim' cannot be tried"),
        ("model.lens.rank={choices: [2, 4]}", r"lens is None here, not a section"),
    ],
)
def test_a_search_over_values_that_are_not_accepted_is_refused(
    setting: str, message: str, minimal: Path
) -> None:
    key, _, searched = setting.partition("=")
    text = minimal.read_text() + f"\ntune: {{keys: {{{key}: {searched}}}}}\n"
    minimal.write_text(text)
    config = load_config(minimal)
    with pytest.raises(ConfigError, match=rf"tune\.keys\.{key}: .*{message}|{message}"):
        check_searched_keys(config)


def test_a_search_over_accepted_values_is_read(minimal: Path) -> None:
    keys = "model.lain: {choices: [null, {}]}, train.learning_rate: {min: 1e-4, max: 1e-2}"
    minimal.write_text(minimal.read_text() + f"\ntune: {{trials: 3, keys: {{{keys}}}}}\n")
    config = load_config(minimal)
    check_searched_keys(config)
    tune = config.tune
    assert tune.keys["train.learning_rate"].min == 1e-4
    assert tune.keys["model.lain"].choices == (None, {})
    # A run of another backbone does not read the section.
    other = load_config(minimal, ["model.backbone=pooled"])
    with pytest.raises(ConfigError, match=r"tune\.keys\.model\.lain: \{\} cannot be tried"):
        check_searched_keys(other)
