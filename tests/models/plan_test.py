"""Tests of what a ranker reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.config import ActionFusion, Inputs, ModelConfig
from models.plan import CUSTOM_CONFIG_KEY, FIELDS, make_plan, read_run_config
from schemas import features
from schemas.dataset import SHIPPED, load_description
from schemas.loading import ConfigError, to_plain


def test_full_side_reads_every_field_once() -> None:
    description = load_description("kuairand_pure")
    plan = make_plan(description, ModelConfig(), "typed_exposure", 100)
    parts = [part.name for part in plan.item_parts]
    assert parts == ["item_id", "author_id", "tag"]
    read = [*parts, *(c.name for c in plan.categories), *(n.name for n in plan.numbers)]
    extra = ["item_id", "history_length", "history_length_total"]
    assert sorted(read) == sorted([*(field.name for field in description.fields), *extra])
    assert plan.history_lists == (
        "history_item_id",
        "history_author_id",
        "history_tag",
        "history_action",
    )


def test_a_context_field_may_be_the_candidates() -> None:
    kuairand = make_plan(load_description("kuairand_pure"), ModelConfig(), "click_only", 100)
    assert "duration_ms" in kuairand.candidate_fields
    assert not {"tab", "hour"} & set(kuairand.candidate_fields)
    simulated = make_plan(load_description("simulated"), ModelConfig(), "click_only", 100)
    assert set(simulated.candidate_fields) == {"author_id", "duration_seconds"}


def test_controlled_reads_items_and_actions_only() -> None:
    description = load_description("kuairand_pure")
    model = ModelConfig(inputs=Inputs.CONTROLLED)
    plan = make_plan(description, model, "typed_exposure", 100)
    assert [part.name for part in plan.item_parts] == ["item_id"]
    assert (plan.categories, plan.numbers) == ((), ())
    assert plan.history_lists == ("history_item_id", "history_action")
    assert FIELDS not in plan.vocabularies


def test_hashed_categories_have_no_vocabulary() -> None:
    description = load_description("kuairand_pure")
    model = ModelConfig(hash_buckets={"item_id": 1000, "tab": 8})
    plan = make_plan(description, model, "typed_exposure", 100)
    assert plan.hashed("item_id") == {"item_id": 1000}
    assert plan.hashed(FIELDS) == {"tab": 8}
    assert plan.hashed("author_id") == {}
    assert "item_id" in plan.tables
    assert "item_id" not in plan.vocabularies
    assert FIELDS in plan.vocabularies
    with pytest.raises(ValueError, match=r"hash_buckets \['tag_of'\].*no such categories.*'tab'"):
        make_plan(description, ModelConfig(hash_buckets={"tag_of": 8}), "click_only", 100)


def test_categories_with_a_width_of_their_own_have_a_vocabulary_of_their_own() -> None:
    description = load_description("kuairand_pure")
    named = ModelConfig(embedding_dims={"tab": 4, "author_id": 8}, hash_buckets={"tab": 8})
    plan = make_plan(description, named, "typed_exposure", 100)
    assert plan.hashed("tab") == {"tab": 8}
    assert plan.hashed(FIELDS) == {}
    assert "tab" in plan.tables
    assert "tab" not in plan.vocabularies
    assert FIELDS in plan.vocabularies
    ruled = make_plan(description, ModelConfig(embedding_dim_rule=4.0), "typed_exposure", 100)
    assert FIELDS not in ruled.tables
    assert {category.name for category in ruled.categories} < set(ruled.vocabularies)
    with pytest.raises(ValueError, match=r"embedding_dims \['x'\]: the model reads no such"):
        make_plan(description, ModelConfig(embedding_dims={"x": 4}), "click_only", 100)


def test_excluded_fields_are_not_read() -> None:
    description = load_description("kuairand_pure")
    plan = make_plan(description, ModelConfig(inputs_excluded=("tag", "tab")), "click_only", 100)
    assert [part.name for part in plan.item_parts] == ["item_id", "author_id"]
    assert "tab" not in [category.name for category in plan.categories]
    assert plan.fusion is ActionFusion.NONE
    with pytest.raises(ValueError, match=r"inputs_excluded \['nope'\]"):
        make_plan(description, ModelConfig(inputs_excluded=("nope",)), "click_only", 100)


def test_user_id_is_read_only_when_asked_for() -> None:
    description = load_description("simulated")
    plan = make_plan(description, ModelConfig(), "click_only", 100)
    assert "user_id" not in [category.name for category in plan.categories]
    plan = make_plan(description, ModelConfig(extra_inputs=("user_id",)), "click_only", 100)
    assert "user_id" in [category.name for category in plan.categories]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_dataset_leads_to_a_forbidden_input(path: Path) -> None:
    description = load_description(path.stem)
    everything = ModelConfig(extra_inputs=("user_id", "history_length", "history_length_total"))
    plan = make_plan(description, everything, "typed_exposure", 100)
    names = {item.name for item in (*plan.item_parts, *plan.categories, *plan.numbers)}
    assert not names & features.NEVER_INPUTS
    assert not names & set(description.outcomes)


def test_custom_config_must_be_complete() -> None:
    with pytest.raises(ValueError, match="'lengthwise' is missing"):
        read_run_config({})
    with pytest.raises(ValueError, match=r"keys \['data', 'model', 'train'\] are missing"):
        read_run_config({CUSTOM_CONFIG_KEY: json.dumps({"description": {}})})
    plain = {
        "description": to_plain(load_description("simulated")),
        "data": {"history": {"protocol": "click_only", "max_length": 7}},
        "model": {"backbone": "pooled", "depth": 3},
        "train": {},
    }
    with pytest.raises(ConfigError, match="model: depth: unknown key"):
        read_run_config({CUSTOM_CONFIG_KEY: json.dumps(plain)})
    plain["model"] = {"backbone": "pooled"}
    config = read_run_config({CUSTOM_CONFIG_KEY: json.dumps(plain)})
    assert (config.max_length, config.protocol) == (7, "click_only")
    assert config.description == load_description("simulated")
