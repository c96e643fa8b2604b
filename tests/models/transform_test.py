"""Tests of the Transform graph on a small log, with ids of each type and values missing."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from models import plan as plans
from models.inputs import list_files, make_dataset
from models.plan import FIELDS, NUMBERS, UNKNOWN_INDEX, read_run_config
from tests.models import fixtures
from tests.models.conftest import TinyRun


def transformed(run: TinyRun, split: str) -> dict[str, Any]:
    """All rows of a split as one batch, ordered by user group to be comparable."""
    plan = read_run_config(run.custom_config).plan
    files = list_files([run.files[split]], split=split)
    (batch,) = list(make_dataset(files, plan, batch_size=10_000))
    return batch


def vocabulary(run: TinyRun, name: str) -> dict[str, int]:
    tokens = tft.TFTransformOutput(run.graph).vocabulary_by_name(name)
    return {token.decode(): index + plans.FIRST_INDEX for index, token in enumerate(tokens)}


def test_target_and_history_share_a_vocabulary(tiny_run: TinyRun) -> None:
    vocab = vocabulary(tiny_run, "item_id")
    batch = transformed(tiny_run, "train")
    found = sorted(
        zip(
            batch["item_id"].numpy().tolist(),
            map(tuple, batch["history_item_id"].to_list()),
            strict=True,
        )
    )
    expected = sorted(
        (vocab[str(row["item_id"])], tuple(vocab[str(item)] for item in row["history_item_id"]))
        for row in tiny_run.rows["train"]
    )
    assert found == expected


def test_most_frequent_item_of_target_and_history_comes_first(tiny_run: TinyRun) -> None:
    counts: collections.Counter[str] = collections.Counter()
    for row in tiny_run.rows["train"]:
        counts.update(str(item) for item in [row["item_id"], *row["history_item_id"]])
    most = max(counts.values())
    first = next(iter(vocabulary(tiny_run, "item_id")))
    assert counts[first] == most


def test_missing_categories_are_zero_and_all_columns_present(tiny_run: TinyRun) -> None:
    vocab = vocabulary(tiny_run, FIELDS)
    plan = read_run_config(tiny_run.custom_config).plan
    names = [category.name for category in plan.categories]
    missing = {"surface": "", "author": -1}
    expected = sorted(
        tuple(
            0 if row[name] == missing.get(name) else vocab[f"{name}={row[name]}"] for name in names
        )
        for row in tiny_run.rows["train"]
    )
    assert sorted(map(tuple, transformed(tiny_run, "train")[FIELDS].numpy().tolist())) == expected


def test_numbers_are_z_scores_and_zero_where_missing(tiny_run: TinyRun) -> None:
    plan = read_run_config(tiny_run.custom_config).plan
    column = [number.name for number in plan.numbers].index("age")
    found = transformed(tiny_run, "train")[NUMBERS].numpy()[:, column]
    ages = [row["age"] for row in tiny_run.rows["train"]]
    known = np.log1p([age for age in ages if age is not None])
    expected = [
        0.0 if age is None else (math.log1p(age) - known.mean()) / known.std() for age in ages
    ]
    np.testing.assert_allclose(sorted(found), sorted(expected), atol=1e-4)


def test_history_length_is_counted_from_the_list(tiny_run: TinyRun) -> None:
    plan = read_run_config(tiny_run.custom_config).plan
    column = [number.name for number in plan.numbers].index("history_length")
    batch = transformed(tiny_run, "validation")
    lengths = np.log1p([len(row["history_item_id"]) for row in tiny_run.rows["train"]])
    counted = np.log1p(batch["history_item_id"].row_lengths().numpy())
    expected = (counted - lengths.mean()) / lengths.std()
    np.testing.assert_allclose(batch[NUMBERS].numpy()[:, column], expected, atol=1e-4)


def test_nothing_forbidden_is_in_the_transformed_examples(tiny_run: TinyRun) -> None:
    spec = tft.TFTransformOutput(tiny_run.graph).transformed_feature_spec()
    assert set(spec) == {
        "item_id", "category", "history_item_id", "history_category", "history_action",
        FIELDS, NUMBERS, plans.USER_GROUP, "label",
    }  # fmt: skip


def apply(run: TinyRun, row: dict[str, Any]) -> dict[str, Any]:
    output = tft.TFTransformOutput(run.graph)
    parsed = tf.io.parse_example([fixtures.to_example(row)], output.raw_feature_spec())
    return output.transform_features_layer()(parsed)


def test_unseen_values_are_unknown(int_run: TinyRun) -> None:
    row = {**int_run.rows["train"][0], "item_id": 999, "category": "new", "hour": 77}
    row["history_item_id"], row["history_category"] = [999, 3], ["c0", "c0"]
    row["history_action"] = [1, 2]
    found = apply(int_run, row)
    assert found["item_id"].numpy().tolist() == [UNKNOWN_INDEX]
    assert found["category"].numpy().tolist() == [UNKNOWN_INDEX]
    known = vocabulary(int_run, "item_id")["3"]
    assert found["history_item_id"].values.numpy().tolist() == [UNKNOWN_INDEX, known]
    plan = read_run_config(int_run.custom_config).plan
    column = [category.name for category in plan.categories].index("hour")
    assert found[FIELDS].numpy()[0, column] == UNKNOWN_INDEX


@pytest.mark.parametrize("age", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_counts_as_missing(int_run: TinyRun, age: float) -> None:
    row = {**int_run.rows["train"][0], "age": age}
    plan = read_run_config(int_run.custom_config).plan
    column = [number.name for number in plan.numbers].index("age")
    assert apply(int_run, row)[NUMBERS].numpy()[0, column] == 0


def test_rare_values_stay_out_of_the_vocabulary(tmp_path: Any) -> None:
    rows = fixtures.make_rows(200)
    rows[0] = {**rows[0], "item_id": 500, "surface": "once"}
    config = fixtures.custom_config(fixtures.make_description(), {"vocabulary_min_count": 2})
    output = fixtures.analyze(tmp_path, rows, config)
    assert b"500" not in output.vocabulary_by_name("item_id")
    assert b"surface=once" not in output.vocabulary_by_name(FIELDS)
    assert b"surface=feed" in output.vocabulary_by_name(FIELDS)


def test_type_of_the_schema_must_be_that_of_the_description(tmp_path: Any) -> None:
    config = fixtures.custom_config(fixtures.make_description("string"))
    with pytest.raises(ValueError, match=r"'item_id'.*says string, the schema has int64"):
        fixtures.analyze(tmp_path, fixtures.make_rows(5), config, id_type="int")


def numbers(
    output: tft.TFTransformOutput, rows: Sequence[dict[str, Any]], batch_size: int
) -> np.ndarray:
    """The transformed numbers of rows that are transformed in batches of one size."""
    spec = tft.tf_metadata.schema_utils.schema_as_feature_spec(fixtures.make_schema()).feature_spec
    layer = output.transform_features_layer()
    examples = [fixtures.to_example(row) for row in rows]
    parts = [
        layer(tf.io.parse_example(examples[start : start + batch_size], spec))[NUMBERS].numpy()
        for start in range(0, len(rows), batch_size)
    ]
    return np.concatenate(parts)


def test_bits_depend_neither_on_order_nor_on_batches(tmp_path: Path) -> None:
    rows = fixtures.make_rows(300)
    config = fixtures.custom_config(fixtures.make_description())
    one = fixtures.analyze(tmp_path / "one", rows, config, batch_size=300)
    other = fixtures.analyze(tmp_path / "other", rows[::-1], config, batch_size=13)
    for name in ("item_id", "category", FIELDS):
        assert one.vocabulary_by_name(name) == other.vocabulary_by_name(name)
    whole = numbers(one, rows, 300)
    np.testing.assert_array_equal(numbers(other, rows, 300), whole)
    np.testing.assert_array_equal(numbers(one, rows, 13), whole)
