"""Tests of embeddings of several widths, against tables and projections read by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.config import ModelConfig
from models.embedding_widths import separate_tables, table_widths
from models.inputs import make_dataset
from models.mixed_embedding import MixedEmbedding
from models.ranker import Ranker
from models.warm_start import warm_start, write_warm_start
from models.weight_places import weights_by_place
from schemas.loading import build
from tests.models import tiny_training

SIZES = {"item_id": 9, "category": 4, "surface": 3, "hour": 5}
WIDTHS = {"item_id": 8, "category": 2, "surface": 4, "hour": 2}


def make_layer() -> MixedEmbedding:
    return MixedEmbedding(SIZES, WIDTHS, 8, 0.1, name="all")


def expected(layer: MixedEmbedding, name: str, index: int) -> np.ndarray:
    width = str(WIDTHS[name])
    stack = layer.stacks[width]
    row = stack.table.numpy()[stack.offsets[name] + index]
    return row if width == "8" else row @ layer.projections[width].numpy()


def test_tables_of_one_width_are_stacked() -> None:
    layer = make_layer()
    shapes = {width: tuple(stack.table.shape) for width, stack in layer.stacks.items()}
    assert shapes == {"8": (9, 8), "4": (3, 4), "2": (9, 2)}
    assert sorted(layer.projections) == ["2", "4"]
    again = MixedEmbedding.from_config(layer.get_config())
    assert [tuple(w.shape) for w in again.weights] == [tuple(w.shape) for w in layer.weights]


def test_rows_are_those_of_the_tables_projected() -> None:
    layer = make_layer()
    ids = {"hour": [4, 0, 4], "item_id": [1, 8], "category": [3], "surface": [2, 2]}
    asked = [(name, tf.constant(values, tf.int64)) for name, values in ids.items()]
    rows, positions = layer.unique_rows(asked)
    assert len(rows) == 2 + 2 + 1 + 1 + 1
    np.testing.assert_array_equal(rows[-1], np.zeros(8))
    for (name, values), places in zip(ids.items(), positions, strict=True):
        wanted = [expected(layer, name, value) for value in values]
        np.testing.assert_allclose(tf.gather(rows, places), wanted, rtol=1e-5)


def test_gradients_hold_the_rows_that_were_read_once() -> None:
    layer = make_layer()
    with tf.GradientTape() as tape:
        rows, positions = layer.unique_rows([("hour", tf.constant([4, 0, 4], tf.int64))])
        total = tf.reduce_sum(tf.gather(rows, positions[0]))
    gradient = tape.gradient(total, layer.stacks["2"].table)
    offset = layer.stacks["2"].offsets["hour"]
    assert sorted(gradient.indices.numpy().tolist()) == [offset, offset + 4]


@pytest.mark.parametrize(
    ("count", "width"), [(0, 4), (1, 4), (16, 4), (81, 8), (10_000, 20), (10**8, 32)]
)
def test_widths_by_rule(count: int, width: int) -> None:
    # Twice the fourth root: 2, 2, 4, 6 (to 8, as rounding halves to even), 20, 200 (the most).
    config = build(ModelConfig, {"embedding_dim": 32, "embedding_dim_rule": 2.0}, where="model")
    assert table_widths(config, {"x": count}) == {"x": width}


def test_a_width_by_name_goes_before_the_rule() -> None:
    values = {"embedding_dim": 32, "embedding_dims": {"x": 3}, "embedding_dim_rule": 2.0}
    config = build(ModelConfig, values, where="model")
    assert table_widths(config, {"x": 10_000, "y": 10_000}) == {"x": 3, "y": 20}
    assert table_widths(ModelConfig(), {"x": 5}) == {"x": 32}


def test_transform_knows_which_tables_are_separate_and_not_their_widths() -> None:
    values = {"embedding_dim": 64, "embedding_dims": {"x": 48}, "embedding_dim_rule": 2.0}
    kept = separate_tables(build(ModelConfig, values, where="model"))
    other = {"embedding_dim": 64, "embedding_dims": {"x": 8}, "embedding_dim_rule": 3.0}
    assert kept == separate_tables(build(ModelConfig, other, where="model"))
    assert ModelConfig(**kept).embedding_dims.keys() == {"x"}
    assert separate_tables(ModelConfig()) == {"embedding_dims": {}, "embedding_dim_rule": None}


def make_ranker() -> Ranker:
    """The tiny ranker with narrower tables for the category and the surface."""
    plan = tiny_training.PLAN
    own = dataclasses.replace(plan.categories[0], has_own_table=True)
    plan = dataclasses.replace(plan, categories=(own,))
    factory = tiny_training.make_factory({"embedding_dims": {"category": 2, "surface": 1}})
    sizes = dict.fromkeys(plan.tables, tiny_training.ENTRIES)
    return dataclasses.replace(factory, plan=plan, vocabulary_sizes=sizes).make()


def test_a_ranker_trains_and_warm_starts_with_narrower_tables(tmp_path: Path) -> None:
    ranker = make_ranker()
    shapes = {place: tuple(weight.shape) for place, weight in weights_by_place(ranker).items()}
    rows = tiny_training.ENTRIES + 2
    assert shapes["item_embedding/stacks/4/table"] == (rows, 4)
    assert shapes["item_embedding/stacks/2/table"] == (rows, 2)
    assert shapes["field_embedding/stacks/1/table"] == (rows, 1)
    assert len(ranker.tables) == 3
    files, _ = tiny_training.make_files(tmp_path)
    (batch,) = make_dataset(files, ranker.plan, batch_size=1000)
    losses = [float(ranker.train_step(batch)["total_loss"]) for _ in range(8)]
    assert losses[-1] < losses[0]
    words = {name: [f"{n}".encode() for n in range(20)] for name in ranker.plan.vocabularies}
    write_warm_start(str(tmp_path), ranker, words, "")
    other = make_ranker()
    report = warm_start(other, words, str(tmp_path))
    assert report.not_taken == {}
    np.testing.assert_allclose(other(batch), ranker(batch), atol=1e-6)
