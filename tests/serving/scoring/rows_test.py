"""Rows of files as inputs of a signature, and their scores in order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.client_support.errors import ServingError, StatusCode
from serving.client_support.results import Signature, TensorSpec
from serving.protocol import messages
from serving.protocol.tf_examples import serialize
from serving.scoring.rows import Row, inputs_of, read_rows
from serving.scoring.score import score_rows, with_model


def signature(**inputs: tuple[str, tuple[int, ...] | None]) -> Signature:
    specs = {name: TensorSpec(dtype=kind, shape=shape) for name, (kind, shape) in inputs.items()}
    return Signature(inputs=specs, outputs={}, method_name="tensorflow/serving/predict")


EXAMPLES = signature(examples=("DT_STRING", (-1,)))
RAW = signature(
    item_id=("DT_INT64", (-1,)),
    price=("DT_FLOAT", (-1,)),
    name=("DT_STRING", (-1,)),
    history=("DT_INT64", (-1, -1)),
    tags=("DT_STRING", (-1, -1)),
)
ROW = {"item_id": 1, "price": 2, "name": "a", "history": [1, 2], "tags": ["x"]}


def test_json_lines_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": [2]}\n', encoding="utf-8")

    assert list(read_rows(path)) == [{"a": 1}, {"a": [2]}]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"{", "line 2: not JSON"),
        (b'{"a": "\xff"}', "line 2: not JSON"),
        (b"[1]", "line 2: an object of inputs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")

    with pytest.raises(ValueError, match=text):
        list(read_rows(path))


def test_parquet_columns_are_inputs(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"a": [1, None], "b": [[1, 2], []]}), path)

    assert list(read_rows(path)) == [{"a": 1, "b": [1, 2]}, {"a": None, "b": []}]
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a Parquet file"):
        list(read_rows(path))


def test_a_damaged_column_of_parquet_is_named_with_its_file(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    names = [f"a name, and its number {number}" for number in range(5000)]
    parquet.write_table(pa.table({"name": names}), path)
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(byte ^ 0xFF for byte in content[2000:2400])
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"rows\.parquet: (damaged|not a Parquet file)"):
        list(read_rows(path))


def test_a_file_of_another_form_is_told_what_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("user_id,item_id\n1,2\n")

    with pytest.raises(ValueError, match=r"rows\.csv: .*; TFRecord files and \.jsonl, .* accepted"):
        list(read_rows(path))


def test_examples_go_into_the_one_input_of_text() -> None:
    rows: list[Row] = [b"serialized", {"item_id": 3}]

    inputs = inputs_of(rows, EXAMPLES)

    assert inputs["examples"].tolist() == [b"serialized", serialize({"item_id": 3})]


def test_an_input_of_text_may_be_given_by_name() -> None:
    assert inputs_of([{"examples": "a"}], EXAMPLES)["examples"].tolist() == [b"a"]


def test_rows_become_typed_columns_filled_up_at_the_end() -> None:
    rows = [
        ROW,
        {"item_id": None, "price": None, "name": None, "history": [3], "tags": ["y", None]},
    ]

    inputs = inputs_of(rows, RAW)

    assert {name: array.dtype for name, array in inputs.items()} == {
        "item_id": np.int64,
        "price": np.float32,
        "name": object,
        "history": np.int64,
        "tags": object,
    }
    assert inputs["item_id"].tolist() == [1, -1]
    assert inputs["price"][0] == 2
    assert np.isnan(inputs["price"][1])
    assert inputs["name"].tolist() == [b"a", b""]
    assert inputs["history"].tolist() == [[1, 2], [3, 0]]
    assert inputs["tags"].tolist() == [[b"x", b""], [b"y", b""]]


@pytest.mark.parametrize("nothing", [[], None])
def test_rows_without_any_history_have_a_column_that_a_server_can_pad(nothing: Any) -> None:
    inputs = inputs_of([{**ROW, "history": nothing, "tags": nothing}] * 2, RAW)

    assert inputs["history"].tolist() == [[0], [0]]
    assert inputs["history"].dtype == np.int64
    assert inputs["tags"].tolist() == [[b""], [b""]]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"item_id": "a"}, "item_id"),
        ({"item_id": 1.5}, "whole numbers"),
        ({"item_id": [1]}, "rank 1 is expected, found 2"),
        ({"price": "a"}, "price"),
        ({"name": 3}, "name"),
        ({"history": 3}, "a list is expected"),
        ({"history": [1.5]}, "whole numbers"),
        ({"history": ["a"]}, "history"),
        ({"history": [[1]]}, "history"),
        ({"tags": [1]}, "tags"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        inputs_of([{**ROW, **changed}], RAW)
    assert next(iter(changed)) in str(caught.value)


def test_inputs_that_are_missing_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"input 'name': missing in a row, which has history, item"
    ):
        inputs_of([{name: value for name, value in ROW.items() if name != "name"}], RAW)
    with pytest.raises(ValueError, match=r"'name', .*: missing in a row, which has item_id, price"):
        inputs_of([ROW, {"item_id": 1, "price": 1.0}], RAW)


def test_examples_for_a_signature_of_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="one input of text"):
        inputs_of([b"serialized"], RAW)


def half(rows: list[Row]) -> Mapping[str, np.ndarray]:
    return {"score": np.float32([row["x"] / 2 for row in rows])}  # type: ignore[index]


def test_scores_come_in_the_order_of_the_rows() -> None:
    random = np.random.default_rng(0)
    pauses = random.uniform(0, 0.02, 100)

    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        time.sleep(pauses[rows[0]["x"]])  # type: ignore[index]
        return half(rows)

    rows: list[Row] = [{"x": number} for number in range(100)]
    scored = list(score_rows(iter(rows), score, batch_size=7, concurrency=8))

    assert [row["score"] for row in scored] == [number / 2 for number in range(100)]


def test_rows_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def rows() -> Any:
        for number in range(1000):
            read.append(number)
            yield {"x": number}

    scored = score_rows(rows(), half, batch_size=10, concurrency=2)
    next(scored)

    assert len(read) <= 40
    scored.close()  # type: ignore[attr-defined]


def test_no_more_calls_are_under_way_than_asked_for() -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.01)
        with lock:
            under_way -= 1
        return half(rows)

    list(score_rows([{"x": 1}] * 40, score, batch_size=1, concurrency=3))

    assert most == 3


def test_outputs_are_plain_values() -> None:
    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        return {
            "score": np.float32([0.1]),
            "many": np.float32([[0.1, 0.2]]),
            "text": np.array([b"a"], dtype=object),
            "raw": np.array([b"\xff"], dtype=object),
            "count": np.array([3]),
        }

    (row,) = score_rows([{}], score, batch_size=1, concurrency=1)

    assert row == {
        "score": 0.1,
        "many": [0.1, 0.2],
        "text": "a",
        "raw": {"b64": "/w=="},
        "count": 3,
    }
    assert json.dumps(row)


def test_a_failure_names_its_rows() -> None:
    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        if rows[0]["x"] == 4:  # type: ignore[index]
            raise ValueError("input 'x': not today")
        return half(rows)

    rows: list[Row] = [{"x": number} for number in range(10)]
    with pytest.raises(ValueError, match="rows 5 to 6: input 'x': not today"):
        list(score_rows(rows, score, batch_size=2, concurrency=3))


def test_what_a_server_refuses_names_its_rows() -> None:
    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        if rows[0]["x"] == 4:  # type: ignore[index]
            raise ServingError(StatusCode.INVALID_ARGUMENT, "no such item", attempts=1)
        return half(rows)

    rows: list[Row] = [{"x": number} for number in range(10)]
    with pytest.raises(ServingError, match=r"^INVALID_ARGUMENT: rows 5 to 6: no such item$"):
        list(score_rows(rows, score, batch_size=2, concurrency=3))


def test_what_a_model_in_this_process_refuses_names_its_rows(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def score(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        form = {"item_id": tf.io.FixedLenFeature([], tf.int64)}
        return {"score": tf.io.parse_example(examples, form)["item_id"]}

    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"score": score})
    call = with_model(tmp_path / "1", "score")
    rows: list[Row] = [{"item_id": 3}, {"item_id": 4}, {"user_id": 5}]

    with pytest.raises(ValueError, match=r"^rows 3 to 3: [^\n]*item_id[^\n]* is required"):
        list(score_rows(rows, call, batch_size=2, concurrency=1))


def test_an_output_of_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows 1 to 2: output 'score' has the shape \[1\]"):
        list(score_rows([{}, {}], lambda rows: {"score": np.zeros(1)}, batch_size=2, concurrency=1))


@pytest.mark.parametrize("values", [{"batch_size": 0}, {"concurrency": 0}])
def test_a_number_below_one_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(score_rows([], half, **{"batch_size": 1, "concurrency": 1, **values}))


def test_a_model_folder_scores_in_this_process(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable(2.0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="price"),
            tf.TensorSpec([None, None], tf.int64, name="history"),
        ]
    )
    def score(price: tf.Tensor, history: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.cast(tf.reduce_sum(history, axis=1), tf.float32)
        return {"score": module.weight * price + total}

    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"score": score})

    call = with_model(tmp_path / "1", "score")
    rows: list[Row] = [{"price": 1.5, "history": [1]}, {"price": 0, "history": [2, 3]}]
    scored = list(score_rows(rows, call, batch_size=2, concurrency=1))

    assert scored == [{"score": 4.0}, {"score": 5.0}]
    with pytest.raises(ValueError, match="signature 'rank': the model '1' has score"):
        with_model(tmp_path / "1", "rank")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"saved_model.pb: No such file or directory$"):
        with_model(tmp_path, "score")
    for version in ("9", "10"):
        (tmp_path / "served" / version).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"served/10 is accepted$"):
        with_model(tmp_path / "served", "score")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match="not a SavedModel"):
        with_model(tmp_path, "score")
    (tmp_path / "saved_model.pb").write_bytes(messages.SavedModel().SerializeToString())
    with pytest.raises(ValueError, match="has none"):
        with_model(tmp_path, "score")
