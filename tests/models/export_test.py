"""Tests of the export, loaded by a process that has TensorFlow and nothing of ours."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from models import metrics
from models.export import CONFIG_FILE
from models.inputs import list_files, make_dataset
from models.plan import read_run_config
from models.trainer import CHECKPOINT, make_factory
from tests.models import fixtures
from tests.models.conftest import TinyRun
from tests.models.rank_requests import OF_CANDIDATE, by_user, expand, to_request

# Calls every signature and writes what it got; runs apart from the project's code.
LOADER = """
import json, sys
import tensorflow as tf

folder, examples, raw, expanded, request, output = sys.argv[1:]
model = tf.saved_model.load(folder)
serialized = tf.constant(list(tf.data.TFRecordDataset(examples).as_numpy_iterator()))
call = model.signatures


def read(signature, path):
    specs = call[signature].structured_input_signature[1]
    values = json.load(open(path))
    return {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}


of_candidates = tf.constant(list(tf.data.TFRecordDataset(expanded).as_numpy_iterator()))
found = {
    "serving_default": call["serving_default"](examples=serialized)["score"],
    "regress": call["regress"](inputs=serialized)["outputs"],
    "scores": call["classify"](inputs=serialized)["scores"],
    "classes": tf.strings.to_number(call["classify"](inputs=serialized)["classes"]),
    "score": call["score"](**read("score", raw))["score"],
    "rank": call["rank"](**read("rank", request))["score"],
    "expanded": call["serving_default"](examples=of_candidates)["score"],
}
# TF Serving loads through the first version of the loader.
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    found["methods"] = {
        name: signature.method_name for name, signature in graph.signature_def.items()
    }
    regress = graph.signature_def["regress"]
    found["session"] = session.run(
        regress.outputs["outputs"].name,
        {regress.inputs["inputs"].name: serialized.numpy()},
    )
assert not [name for name in sys.modules if name.split(".")[0] in ("models", "schemas")]
json.dump(
    {k: v if isinstance(v, dict) else tf.convert_to_tensor(v).numpy().tolist()
     for k, v in found.items()},
    open(output, "w"),
)
"""


def dense_request(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows as the ``score`` signature takes them, the unused columns full of another item."""
    width = max(len(row["history_item_id"]) for row in rows) + 2

    def padded(name: str) -> list[list[Any]]:
        filler = rows[0]["item_id"] if name == "history_item_id" else None
        filler = {"history_category": "c1", "history_action": 1}.get(name, filler)
        return [row[name] + [filler] * (width - len(row[name])) for row in rows]

    scalars = ("item_id", "category", "surface", "hour", "author", "history_length_total")
    request: dict[str, Any] = {name: [row[name] for row in rows] for name in scalars}
    request["age"] = [float("nan") if row["age"] is None else row["age"] for row in rows]
    request["history_length"] = [len(row["history_item_id"]) for row in rows]
    for name in ("history_item_id", "history_category", "history_action"):
        request[name] = padded(name)
    return request


def rank_rows(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """Users and 3, 0, 5 and 1 candidates for them."""
    pool = iter(rows[100:])
    return rows[:4], [
        [{key: row[key] for key in OF_CANDIDATE} for row in itertools.islice(pool, count)]
        for count in (3, 0, 5, 1)
    ]


def rank_request(users: list[dict[str, Any]], candidates: list[Any]) -> dict[str, Any]:
    """The request, whose columns that do not count hold what is known."""
    item = users[0]["item_id"]
    filler = {"item_id": item, "category": "c1", "author": 1}
    fillers = {"history_item_id": item, "history_category": "c1", "history_action": 1}
    return to_request(users, candidates, filler=filler, fillers=fillers)


@functools.cache
def load(model: str) -> Any:
    """The model, loaded once: that takes longer than what most tests do with it."""
    return tf.saved_model.load(model)


@pytest.fixture(scope="module")
def loaded(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process got from every signature for the validation rows."""
    folder = tmp_path_factory.mktemp("loaded")
    rows = tiny_run.rows["validation"]
    examples = fixtures.write_examples(folder / "examples", rows)
    (folder / "raw.json").write_text(json.dumps(dense_request(rows)))
    users, candidates = rank_rows(rows)
    expanded = folder / "expanded"
    with tf.io.TFRecordWriter(str(expanded)) as writer:
        for example in expand(users, candidates):
            writer.write(example)
    (folder / "rank.json").write_text(json.dumps(rank_request(users, candidates)))
    (folder / "load.py").write_text(LOADER)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH",)}
    process = subprocess.run(
        [
            sys.executable, str(folder / "load.py"), tiny_run.model, examples,
            str(folder / "raw.json"), str(expanded), str(folder / "rank.json"),
            str(folder / "out.json"),
        ],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return dict(json.loads((folder / "out.json").read_text()))


def test_fresh_process_agrees_with_the_trainer(tiny_run: TinyRun, loaded: dict[str, Any]) -> None:
    scores = np.array(loaded["serving_default"])
    labels = [row["label"] for row in tiny_run.rows["validation"]]
    expected = tiny_run.summary["validation"]
    assert metrics.auc(labels, scores) == pytest.approx(expected["auc"], abs=1e-5)
    assert metrics.log_loss(labels, scores) == pytest.approx(expected["log_loss"], abs=1e-5)


def test_fresh_process_agrees_with_the_model_row_by_row(
    tiny_run: TinyRun, loaded: dict[str, Any]
) -> None:
    config = read_run_config(tiny_run.custom_config)
    factory = make_factory(config, tft.TFTransformOutput(tiny_run.graph), None)
    ranker = factory.make()
    weights = str(tiny_run.folder / "run" / CHECKPOINT)
    tf.train.Checkpoint(ranker=ranker).read(weights).assert_existing_objects_matched()
    files = list_files([tiny_run.files["validation"]], split="validation")
    (batch,) = list(make_dataset(files, config.plan, batch_size=10_000))
    expected = tf.sigmoid(ranker(batch)).numpy()
    # Transform shuffles rows: the scores are compared in order of size.
    np.testing.assert_allclose(np.sort(loaded["serving_default"]), np.sort(expected), atol=1e-6)


def test_signatures_agree(loaded: dict[str, Any]) -> None:
    scores = np.array(loaded["serving_default"])
    assert scores.ndim == 1
    np.testing.assert_allclose(loaded["regress"], scores[:, None], atol=1e-6)
    np.testing.assert_allclose(loaded["session"], scores[:, None], atol=1e-6)
    np.testing.assert_allclose(loaded["scores"], np.stack([1 - scores, scores], axis=1), atol=1e-6)
    np.testing.assert_allclose(loaded["score"], scores, atol=1e-6)
    assert np.array(loaded["classes"]).tolist() == [[0.0, 1.0]] * len(scores)


def test_method_names_are_what_tf_serving_checks(loaded: dict[str, Any]) -> None:
    methods = loaded["methods"]
    assert methods["regress"] == "tensorflow/serving/regress"
    assert methods["classify"] == "tensorflow/serving/classify"
    assert methods["serving_default"] == "tensorflow/serving/predict"
    assert methods["score"] == methods["rank"] == "tensorflow/serving/predict"


def test_rank_in_a_fresh_process_gives_the_scores_of_the_expanded_examples(
    tiny_run: TinyRun, loaded: dict[str, Any]
) -> None:
    _, candidates = rank_rows(tiny_run.rows["validation"])
    expected = by_user(np.array(loaded["expanded"]), candidates)
    np.testing.assert_allclose(loaded["rank"], expected, atol=1e-5)
    assert np.ptp(loaded["expanded"]) > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate_count": [3, 0, 99, 1]}, "candidate_count: larger than the columns of item_id"),
        ({"candidate_count": [3, 0, -1, 1]}, "candidate_count: negative"),
        ({"candidate_count": [3]}, "candidate_count: as many rows as item_id"),
        ({"history_length": [0, 99, 0, 0]}, "history_length: larger than the columns"),
        ({"author": [[1]] * 4}, "author: the shape of item_id"),
    ],
)
def test_a_rank_request_that_does_not_fit_is_refused(
    int_run: TinyRun, change: dict[str, Any], message: str
) -> None:
    request = {**rank_request(*rank_rows(int_run.rows["validation"])), **change}
    signature = load(int_run.model).signatures["rank"]
    specs = signature.structured_input_signature[1]
    tensors = {name: tf.constant(request[name], spec.dtype) for name, spec in specs.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signature(**tensors)


def scores_of(run: TinyRun, rows: list[dict[str, Any]]) -> np.ndarray:
    signature = load(run.model).signatures["serving_default"]
    serialized = tf.constant([fixtures.to_example(row) for row in rows])
    return np.array(signature(examples=serialized)["score"])


def test_optional_features_may_be_left_out(tiny_run: TinyRun) -> None:
    row = next(row for row in tiny_run.rows["validation"] if len(row["history_item_id"]) == 5)
    known = {"item_id": row["item_id"], "history_item_id": row["history_item_id"]}
    written_out = {
        **known, "category": "", "surface": "", "hour": -1, "author": -1,
        "history_category": [""] * 5, "history_action": [0] * 5, "history_length_total": -1,
    }  # fmt: skip
    only_item = {"item_id": row["item_id"]}
    scores = scores_of(tiny_run, [known, written_out, only_item])
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_the_item_is_required(int_run: TinyRun) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"item_id.*required"):
        scores_of(int_run, [{"surface": "feed"}])


def test_the_last_events_of_a_long_history_are_read(int_run: TinyRun) -> None:
    row = next(r for r in int_run.rows["validation"] if len(r["history_item_id"]) == 8)
    longer = {
        **row,
        "history_item_id": [1, 2, *row["history_item_id"]],
        "history_category": ["c0", "c1", *row["history_category"]],
        "history_action": [1, 1, *row["history_action"]],
    }
    scores = scores_of(int_run, [row, longer])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_length_beyond_the_columns_is_refused(int_run: TinyRun) -> None:
    rows = int_run.rows["validation"][:3]
    signature = load(int_run.model).signatures["score"]
    specs = signature.structured_input_signature[1]
    request = {**dense_request(rows), "history_length": [0, 50, 1]}
    tensors = {name: tf.constant(value, specs[name].dtype) for name, value in request.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="history_length: larger than"):
        signature(**tensors)


def test_an_empty_batch_gives_no_scores(int_run: TinyRun) -> None:
    signature = load(int_run.model).signatures["serving_default"]
    assert signature(examples=tf.constant([], tf.string))["score"].shape == (0,)


def test_resolved_configuration_is_saved_with_the_model(tiny_run: TinyRun) -> None:
    saved = json.loads((Path(tiny_run.model) / CONFIG_FILE).read_text())
    assert saved["description"]["name"] == "tiny"
    assert saved["chosen_epoch"] == tiny_run.summary["chosen_epoch"]
    assert not list(Path(tiny_run.model).parent.glob("*.staged"))
