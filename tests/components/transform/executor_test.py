"""Tests of OrderedTransform's executor against the stock one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tfx.components.transform import executor as stock
from tfx.types import artifact_utils, standard_artifacts

from components.transform.executor import Executor
from components.transform.files import load_transform, transform_file
from models.plan import WINDOW_END
from schemas import features
from tests.models import fixtures

BEAM_ARGS = [f"--runner={fixtures.RUNNER}", "--sdk_container_image=unused"]
FILES = {
    "train": ["data_tfrecord-00000-of-00002", "data_tfrecord-00001-of-00002"],
    "validation": ["data_tfrecord-00000-of-00001.gz"],
}
SPLITS = {"analyze": ["train"], "transform": ["train", "validation"]}


@pytest.fixture
def run(tmp_path: Path, make_artifact: Callable[..., Any]) -> Callable[[Any, str], Any]:
    """Runs an executor on 150 and 40 raw examples; returns the transformed artifact."""
    examples = make_artifact(standard_artifacts.Examples, tmp_path / "raw", [*FILES, "test"])
    rows = iter(fixtures.make_rows(190))
    for (split, names), size in zip(FILES.items(), (75, 40), strict=True):
        for name in names:
            path = tmp_path / "raw" / f"Split-{split}" / name
            fixtures.write_examples(path, [next(rows) for _ in range(size)])
    schema = make_artifact(standard_artifacts.Schema, tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    text = text_format.MessageToString(fixtures.make_schema())
    (tmp_path / "schema" / "schema.pbtxt").write_text(text, encoding="utf-8")
    properties = {
        "preprocessing_fn": "models.transform.preprocessing_fn",
        "custom_config": json.dumps(fixtures.custom_config(fixtures.make_description())),
        "splits_config": json.dumps(SPLITS),
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
    }

    def run_executor(executor: Any, name: str, **changes: Any) -> Any:
        context = executor.Context(
            beam_pipeline_args=BEAM_ARGS, tmp_dir=str(tmp_path / "tmp"), unique_id=name
        )
        transformed = make_artifact(standard_artifacts.Examples, tmp_path / name / "examples")
        graph = make_artifact(standard_artifacts.TransformGraph, tmp_path / name / "graph")
        cache = make_artifact(standard_artifacts.TransformCache, tmp_path / name / "cache")
        outputs = {
            "transform_graph": [graph],
            "transformed_examples": [transformed],
            "updated_analyzer_cache": [cache],
        }
        executor(context).Do(
            {"examples": [examples], "schema": [schema]}, outputs, {**properties, **changes}
        )
        return transformed

    return run_executor


def records(artifact: Any, split: str) -> list[list[bytes]]:
    folder = Path(artifact_utils.get_split_uri([artifact], split))
    return [
        [
            record.numpy()
            for record in tf.data.TFRecordDataset(str(path), "GZIP" if path.suffix == ".gz" else "")
        ]
        for path in sorted(folder.iterdir())
    ]


def values(record: bytes) -> str:
    """An example as text; lists that are left out and empty ones are the same."""
    example = tf.train.Example.FromString(record)
    return str(
        {
            name: (list(part.int64_list.value), list(part.float_list.value))
            for name, part in sorted(example.features.feature.items())
            if part.int64_list.value or part.float_list.value
        }
    )


def test_files_and_order_are_those_of_the_raw_examples(
    run: Callable[[Any, str], Any], tmp_path: Path
) -> None:
    transformed = run(Executor, "ordered")
    assert artifact_utils.decode_split_names(transformed.split_names) == list(FILES)
    for split, names in FILES.items():
        folder = Path(artifact_utils.get_split_uri([transformed], split))
        assert sorted(path.name for path in folder.iterdir()) == names
        spec = {"label": tf.io.FixedLenFeature([], tf.float32)}
        raw_spec = {"label": tf.io.FixedLenFeature([], tf.int64)}
        raw = standard_artifacts.Examples()
        raw.uri = str(tmp_path / "raw")
        raw.split_names = transformed.split_names
        for file, raw_file in zip(records(transformed, split), records(raw, split), strict=True):
            found = tf.io.parse_example(file, spec)["label"].numpy().tolist()
            assert found == tf.io.parse_example(raw_file, raw_spec)["label"].numpy().tolist()

    # The graph of the run packs as well, and every row is there once.
    graph, target = str(tmp_path / "ordered" / "graph"), str(tmp_path / "packed")
    packing = load_transform(graph, keep=[features.HISTORY_LENGTH_TOTAL])
    source = tmp_path / "raw" / "Split-train" / FILES["train"][0]
    transform_file(str(source), target, packing, pack_impressions=5)
    packed = [record.numpy() for record in tf.data.TFRecordDataset(target)]
    windows = tf.io.parse_example(packed, {WINDOW_END: tf.io.RaggedFeature(tf.int64)})[WINDOW_END]
    assert (int(windows.nrows()) <= 75, int(tf.size(windows.values))) == (True, 75)
    with pytest.raises(ValueError, match=r"pack_impressions: features \['elsewhere'\] are needed"):
        load_transform(graph, keep=["elsewhere"])

    expected = run(stock.Executor, "stock")
    for split in FILES:
        ours, theirs = (
            sorted(values(record) for file in records(artifact, split) for record in file)
            for artifact in (transformed, expected)
        )
        assert ours == theirs
