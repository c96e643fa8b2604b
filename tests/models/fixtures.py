"""A small log in the feature contract, as raw and as transformed TFRecords, for the tests."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder
from tfx_bsl.tfxio import tf_example_record

from models.plan import CUSTOM_CONFIG_KEY
from models.transform import preprocessing_fn
from schemas.dataset import DatasetDescription
from schemas.loading import build, to_plain

Row = dict[str, Any]

MAX_LENGTH = 8
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def make_description(id_type: str = "int") -> DatasetDescription:
    """A description with a field of every kind."""
    return build(
        DatasetDescription,
        {
            "name": "tiny",
            "log": {"files": ["*.parquet"]},
            "user": {"column": "user_id", "type": id_type},
            "item": {"column": "item_id", "type": id_type},
            "time": {"column": "time_ms", "years": [2025, 2026]},
            "label": {"column": "clicked"},
            "actions": [
                {"name": "click", "when": ["clicked"], "positive": True},
                {"name": "exposure"},
            ],
            "context": [
                {"name": "surface", "type": "string"},
                {"name": "hour", "type": "int", "derive": "hour_of_day"},
            ],
            "side": {
                "user": {
                    "files": ["users.csv"],
                    "key": "user_id",
                    "fields": [{"name": "age", "type": "float", "scale": "log1p"}],
                },
                "item": {
                    "files": ["items.csv"],
                    "key": "item_id",
                    "fields": [
                        {"name": "category", "type": "string"},
                        {"name": "author", "type": "int"},
                    ],
                },
            },
            "history_fields": ["category"],
            "split": {"validation": "1d", "test": "1d"},
        },
        where="tiny",
    )


def make_rows(count: int, *, seed: int = 0, id_type: str = "int", items: int = 12) -> list[Row]:
    """Rows whose label follows from how the target's category stands in the history."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        length = int(random.integers(0, MAX_LENGTH + 1))
        history = random.integers(1, items, size=length)
        target = int(random.integers(1, items))
        same = np.sum(history % 3 == target % 3) if length else 0
        probability = 1 / (1 + np.exp(-(2.0 * same - 1.5 * (length - same) * 0.5 - 0.3)))
        rows.append(
            {
                "label": int(random.random() < probability),
                "user_id": _identifier(int(random.integers(1, 30)), id_type),
                "item_id": _identifier(target, id_type),
                "timestamp": 1_750_000_000_000 + index,
                "surface": ["feed", "search", ""][int(random.integers(3))],
                "hour": int(random.integers(24)),
                "age": None if random.random() < 0.2 else float(random.integers(18, 80)),
                "category": _category(target),
                "author": target // 2 if target % 5 else -1,
                "history_item_id": [_identifier(int(item), id_type) for item in history],
                "history_category": [_category(int(item)) for item in history],
                "history_action": [int(value) for value in random.integers(1, 3, size=length)],
                "history_length": length,
                "history_length_total": length + int(random.integers(3)),
                "item_train_count": 5,
                "length_bucket": "0-9",
                "density_bucket": "5+",
            }
        )
    return rows


def custom_config(
    description: DatasetDescription,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    *,
    protocol: str = "typed_exposure",
) -> dict[str, str]:
    """What the pipeline hands to Transform and Trainer."""
    plain = {
        "description": to_plain(description),
        "data": {"history": {"protocol": protocol, "max_length": MAX_LENGTH}},
        "model": {"embedding_dim": 8, "hidden_units": [16], "length_groups": 2, **(model or {})},
        "train": {"batch_size": 64, "max_epochs": 2, **(train or {})},
        "source_hash": "0",
    }
    return {CUSTOM_CONFIG_KEY: json.dumps(plain)}


def to_example(row: Row) -> bytes:
    """Serialises a row; what is None or empty is left out."""
    feature = {}
    for name, value in row.items():
        if value is None or value == []:
            continue
        values = value if isinstance(value, list) else [value]
        if all(isinstance(item, str) for item in values):
            data = tf.train.BytesList(value=[item.encode() for item in values])
            feature[name] = tf.train.Feature(bytes_list=data)
        elif any(isinstance(item, float) for item in values):
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_examples(path: Path, rows: Sequence[Row]) -> str:
    """Writes rows as a TFRecord file, compressed if the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "GZIP" if path.suffix == ".gz" else ""
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        for row in rows:
            writer.write(to_example(row))
    return str(path)


def make_schema(id_type: str = "int", *, ragged: bool = False) -> schema_pb2.Schema:
    """The schema of the rows: one value where there always is one, else lists."""
    types = {
        "label": "INT", "user_id": id_type, "item_id": id_type, "timestamp": "INT",
        "surface": "BYTES", "hour": "INT", "category": "BYTES", "author": "INT",
        "history_length": "INT", "history_length_total": "INT", "item_train_count": "INT",
        "length_bucket": "BYTES", "density_bucket": "BYTES",
    }  # fmt: skip
    lists = {
        "age": "FLOAT", "history_item_id": id_type, "history_category": "BYTES",
        "history_action": "INT",
    }  # fmt: skip
    names = {"int": "INT", "string": "BYTES"}
    text = "".join(
        f'feature {{ name: "{name}" type: {names.get(kind, kind)} '
        "presence { min_fraction: 1 } shape { dim { size: 1 } } }\n"
        for name, kind in types.items()
    )
    text += "".join(
        f'feature {{ name: "{name}" type: {names.get(kind, kind)} }}\n'
        for name, kind in lists.items()
    )
    if ragged:
        text += "represent_variable_length_as_ragged: true\n"
    return text_format.Parse(text, schema_pb2.Schema())


def run_transform(
    folder: Path,
    rows: Mapping[str, Sequence[Row]],
    config: Mapping[str, str],
    schema: schema_pb2.Schema,
) -> tuple[tft.TFTransformOutput, dict[str, str]]:
    """Analyses the train split, transforms all, and returns the graph and the files by split.

    The files have the examples in one order, whatever the one that Beam wrote them in.
    """
    raw = {
        split: write_examples(folder / "raw" / f"{split}.tfrecord", values)
        for split, values in rows.items()
    }
    graph = str(folder / "graph")
    written = {split: str(folder / "written" / split / "part") for split in rows}
    with beam.Pipeline(runner=RUNNER) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        sources = {
            split: tf_example_record.TFExampleRecord(path, schema=schema, telemetry_descriptors=[])
            for split, path in raw.items()
        }
        batches = {
            split: pipeline | f"Read {split}" >> source.BeamSource()
            for split, source in sources.items()
        }
        train = sources["train"]
        function = (
            batches["train"],
            train.TensorAdapterConfig(),
        ) | "Analyze" >> tft_beam.AnalyzeDataset(
            functools.partial(preprocessing_fn, custom_config=dict(config))
        )
        _ = function | tft_beam.WriteTransformFn(graph)
        tft.tf_metadata.metadata_io.write_metadata(
            tft.DatasetMetadata(schema), str(Path(graph) / tft.TFTransformOutput.RAW_METADATA_DIR)
        )
        for split, source in sources.items():
            data, _ = (
                (batches[split], source.TensorAdapterConfig()),
                function,
            ) | f"Transform {split}" >> tft_beam.TransformDataset(output_record_batches=True)
            _ = (
                data
                | f"Encode {split}" >> beam.FlatMap(_encode)
                | f"Write {split}"
                >> beam.io.WriteToTFRecord(written[split], num_shards=2, file_name_suffix=".gz")
            )
    files = {
        split: _write_in_order(f"{path}*", folder / "transformed" / split)
        for split, path in written.items()
    }
    return tft.TFTransformOutput(graph), files


def analyze(
    folder: Path,
    rows: Sequence[Row],
    config: Mapping[str, str],
    *,
    id_type: str = "int",
    batch_size: int = 1000,
) -> tft.TFTransformOutput:
    """The Transform graph of rows, analysed in batches of one size; transforms none of them."""
    schema = make_schema(id_type)
    source = tf_example_record.TFExampleBeamRecord("memory", schema=schema)
    with beam.Pipeline(runner=RUNNER) as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp")):
        batches = (
            pipeline
            | beam.Create([to_example(row) for row in rows], reshuffle=False)
            | source.BeamSource(batch_size)
        )
        function = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            functools.partial(preprocessing_fn, custom_config=dict(config))
        )
        _ = function | tft_beam.WriteTransformFn(str(folder))
        tft.tf_metadata.metadata_io.write_metadata(
            tft.DatasetMetadata(schema), str(folder / tft.TFTransformOutput.RAW_METADATA_DIR)
        )
    return tft.TFTransformOutput(str(folder))


def _write_in_order(pattern: str, folder: Path) -> str:
    """Writes examples sorted by their bytes to two files; returns the pattern of these."""
    found = tf.io.gfile.glob(pattern)
    records = sorted(
        record.numpy() for record in tf.data.TFRecordDataset(found, compression_type="GZIP")
    )
    folder.mkdir(parents=True)
    for index in range(2):
        with tf.io.TFRecordWriter(str(folder / f"part-{index}.gz"), "GZIP") as writer:
            for record in records[index::2]:
                writer.write(record)
    return str(folder / "part*")


def _encode(element: tuple[Any, Any]) -> list[bytes]:
    return RecordBatchToExamplesEncoder().encode(element[0])


def _identifier(number: int, id_type: str) -> int | str:
    return number if id_type == "int" else f"id {number}"


def _category(item: int) -> str:
    return f"c{item % 3}"
