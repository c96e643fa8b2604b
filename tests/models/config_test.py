"""Tests of the model and training configuration."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from models.capabilities import Backbone
from models.config import ActionFusion, ModelConfig, TrainConfig
from schemas import features
from schemas.loading import ConfigError, build, to_plain


def test_round_trip_through_plain_values() -> None:
    config = ModelConfig(embedding_dim=16, inputs_excluded=("tab",))
    assert build(ModelConfig, to_plain(config), where="model") == config
    train = TrainConfig(seed=3, refit=True)
    assert build(TrainConfig, to_plain(train), where="train") == train


@pytest.mark.parametrize("name", sorted(features.NEVER_INPUTS))
def test_density_and_label_are_refused_as_inputs(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*can never be an input"):
        build(ModelConfig, {"extra_inputs": [name]}, where="model")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (ModelConfig, {"backbone": "din", "lens": {}}, "lens: backbone 'din' has no queries.*hyfo"),
        (ModelConfig, {"backbone": "sim", "position": "global"}, "position: backbone 'sim' has no"),
        (ModelConfig, {"backbone": "pooled", "lain": {}}, "lain: backbone 'pooled' has no atten"),
        (
            ModelConfig,
            {"backbone": "din", "lain": {"short_branch": False}},
            "short_branch false: backbone 'din' would have no branch.*sim, eta, sdim, twin is",
        ),
        (
            ModelConfig,
            {"backbone": "sdim", "lain": {"short_branch": False, "prompts": 0}},
            "lain.prompts 0 with the long branch alone: that of backbone 'sdim' has no softmax",
        ),
        (
            ModelConfig,
            {"backbone": "sdim", "long_history": {"hash_bits": 32}},
            "hash_bits 32: sdim keeps a bucket for each hash; 1 to 16",
        ),
        (ModelConfig, {"long_history": {"hash_bits": 0}}, "hash_bits 0: at least 1"),
        (ModelConfig, {"long_history": {"seed": -1}}, "seed -1: at least 0"),
        (ModelConfig, {"long_history": {"auxiliary_units": [8, 0]}}, "auxiliary_units .8, 0.: wid"),
        (ModelConfig, {"hyformer": {"queries": 80}}, "hyformer: queries 80.*at most dim 64"),
        (ModelConfig, {"onetrans": {"heads": 3}}, "onetrans: heads 3: a divisor of dim 64"),
        (ModelConfig, {"second_history": ["click"]}, "second_history.*backbone 'din' reads one"),
        (
            ModelConfig,
            {"backbone": "hyformer", "second_history": ["click"], "hyformer": {"queries": 3}},
            "hyformer.queries 3: two histories share them",
        ),
        (ModelConfig, {"lain": {"prompt": 4}}, "did you mean 'prompts'"),
        (ModelConfig, {"backbone": "gru"}, "backbone"),
        (ModelConfig, {"extra_inputs": ["timestamp"]}, "history_length_total"),
        (ModelConfig, {"embedding_dim": 0}, "embedding_dim 0: at least 1"),
        (ModelConfig, {"vocabulary_expiry_days": 0}, "vocabulary_expiry_days 0: at least 1"),
        (ModelConfig, {"hash_buckets": {"item_id": 1}}, "hash_buckets item_id 1: 2 to 1073741824"),
        (ModelConfig, {"embedding_dims": {"item_id": 64}}, "embedding_dims item_id 64: 1 to .* 32"),
        (ModelConfig, {"embedding_dim_rule": 0.0}, "embedding_dim_rule 0.0: above 0"),
        (TrainConfig, {"export_tables": "int4"}, "export_tables"),
        (ModelConfig, {"hidden_units": []}, "hidden_units"),
        (ModelConfig, {"dropout": 1.0}, "dropout 1.0: 0 to below 1"),
        (ModelConfig, {"embedding_l2": -1.0}, "embedding_l2"),
        (ModelConfig, {"embedding_init_std": 0.0}, "embedding_init_std"),
        (ModelConfig, {"embeding_dim": 3}, "did you mean 'embedding_dim'"),
        (TrainConfig, {"batch_size": 0}, "batch_size 0"),
        (TrainConfig, {"seed": -1}, "seed -1"),
        (TrainConfig, {"learning_rate": 0.0}, "learning_rate 0.0"),
        (TrainConfig, {"table_optimizer": "sgd"}, "table_optimizer"),
        (TrainConfig, {"metric": "accuracy"}, "metric"),
        (TrainConfig, {"table_l1": -1.0, "table_optimizer": "ftrl"}, "table_l1 -1.0: at least 0"),
        (TrainConfig, {"table_l2": 1.0}, "table_l2 1.0 with table_optimizer lazy_adam.*or ftrl is"),
        (
            TrainConfig,
            {"table_optimizer": "ftrl", "learning_rate_schedule": "linear"},
            "learning_rate_schedule linear with table_optimizer ftrl: .* constant is accepted",
        ),
        (TrainConfig, {"learning_rates": {"head/*": 0.0}}, "head/\\* 0.0: above 0 and below 10"),
    ],
)
def test_bad_values_are_named(section: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(section, values, where="section")


def test_action_fusion_follows_the_protocol() -> None:
    assert ModelConfig().fusion("typed_exposure") is ActionFusion.ADD
    assert ModelConfig().fusion("click_only") is ActionFusion.NONE
    chosen = ModelConfig(action_fusion=ActionFusion.CONCAT)
    assert chosen.fusion("typed_exposure") is ActionFusion.CONCAT
    with pytest.raises(ValueError, match=r"action_fusion 'concat'.*found click_only"):
        chosen.fusion("click_only")


def test_a_second_history_needs_action_types() -> None:
    chosen = ModelConfig(backbone=Backbone.HYFORMER, second_history=("click",))
    assert chosen.fusion("typed_exposure") is ActionFusion.ADD
    with pytest.raises(ValueError, match=r"second_history: .*found protocol click_only"):
        chosen.fusion("click_only")


def test_configuration_does_not_import_tensorflow() -> None:
    code = "import models.plan, models.metrics, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
