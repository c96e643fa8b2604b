"""Tests of tables in fewer bytes: rounding by hand, and an export that reads them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models import metrics
from models.config import TablePrecision
from models.embeddings import StackedEmbedding
from models.table_storage import StoredTable, rounded_tables, stored_tables
from models.trainer import SUMMARY_FILE, run_fn
from tests.models import fixtures
from tests.models.conftest import TinyRun
from tests.models.trainer_test import with_train

SMALL = (TablePrecision.FLOAT16, TablePrecision.INT8)


def weights(rows: int = 6, dim: int = 5) -> np.ndarray:
    random = np.random.default_rng(0)
    values = random.normal(size=[rows, dim]) * np.logspace(-4, 2, rows)[:, np.newaxis]
    return values.astype(np.float32)


def make_layer() -> StackedEmbedding:
    layer = StackedEmbedding({"item_id": 4, "category": 2}, 5, 0.1, name="items")
    layer.table.assign(weights())
    return layer


def test_int8_rounds_to_the_127th_part_of_the_largest_weight_of_a_row() -> None:
    table = StoredTable(np.array([[1.27, -0.634, 0.0], [0, 0, 0]], np.float32), TablePrecision.INT8)
    np.testing.assert_array_equal(table.values, [[127, -63, 0], [0, 0, 0]])
    np.testing.assert_allclose(table.scale, [0.01, 0], rtol=1e-6)
    np.testing.assert_allclose(table.gather([1, 0]), [[0, 0, 0], [1.27, -0.63, 0]], rtol=1e-6)
    assert table.bytes == 2 * 3 + 2 * 4


def test_no_weight_is_off_by_more_than_half_a_step() -> None:
    table = StoredTable(weights(), TablePrecision.INT8)
    step = np.abs(weights()).max(axis=1, keepdims=True) / 127
    assert np.all(np.abs(table.gather(tf.range(6)) - weights()) <= step * 0.5001)


def test_float16_rounds_each_weight() -> None:
    table = StoredTable(weights(), TablePrecision.FLOAT16)
    np.testing.assert_array_equal(table.gather([5, 2]), weights()[[5, 2]].astype(np.float16))
    assert table.bytes == 6 * 5 * 2


@pytest.mark.parametrize("precision", SMALL)
def test_a_layer_reads_what_is_stored_and_then_its_own_again(precision: TablePrecision) -> None:
    layer = make_layer()
    ids = [("item_id", tf.constant([3, 0, 3], tf.int64)), ("category", tf.constant([1], tf.int64))]

    def read() -> np.ndarray:
        rows, positions = layer.unique_rows(ids)
        return tf.gather(rows, tf.concat(positions, axis=0)).numpy()

    with stored_tables([layer], precision) as (table,):
        stored = read()
        np.testing.assert_array_equal(stored, table.gather([3, 0, 3, 5]))
    np.testing.assert_array_equal(read(), weights()[[3, 0, 3, 5]])
    with rounded_tables([layer], precision):
        np.testing.assert_array_equal(read(), stored)
    np.testing.assert_array_equal(layer.table, weights())


def test_float32_stores_nothing() -> None:
    layer = make_layer()
    with stored_tables([layer], TablePrecision.FLOAT32) as tables:
        assert tables == []
        assert layer.gather is None


def test_weights_come_back_after_an_error() -> None:
    layer = make_layer()
    with pytest.raises(RuntimeError), rounded_tables([layer], TablePrecision.INT8):
        raise RuntimeError
    np.testing.assert_array_equal(layer.table, weights())


def test_an_export_has_the_tables_and_the_auc_that_the_summary_says(
    int_run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_train(int_run, max_epochs=1, export_tables="int8")
    with caplog.at_level(logging.INFO):
        run_fn(int_run.fn_args(tmp_path, custom_config=config))
    export = json.loads((tmp_path / "run" / SUMMARY_FILE).read_text())["export"]
    model = tmp_path / "model" / "Format-Serving"
    loaded = tf.saved_model.load(str(model))
    rows = int_run.rows["validation"]
    examples = tf.constant([fixtures.to_example(row) for row in rows])
    scores = loaded.signatures["serving_default"](examples=examples)["score"].numpy()
    auc = metrics.auc([row["label"] for row in rows], scores)
    assert export["validation"]["auc"] == pytest.approx(auc, abs=1e-6)
    cost = export["validation_float32"]["auc"] - export["validation"]["auc"]
    assert export["auc_cost"] == pytest.approx(cost, abs=1e-12)
    assert abs(cost) < 0.01
    [line] = [vars(record)["line"] for record in caplog.records if "line" in vars(record)]
    assert line.startswith(f"tables are exported as int8: validation AUC {auc:.6f}, ")
    # Width 8: eight bytes and a scale of four in place of 32.
    assert export["table_bytes"] * 32 == export["table_bytes_float32"] * 12
    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    assert list(reader.get_variable_to_dtype_map().values()).count(tf.int8) == 2
    files = [model / "saved_model.pb", *(model / "variables").iterdir()]
    assert export["model_bytes"] == sum(path.stat().st_size for path in files)
    assert int_run.summary["export"]["tables"] == "float32"
    assert int_run.summary["export"]["table_bytes"] == export["table_bytes_float32"]
