"""Tests of transforming a file: order, compression, columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.transform import files
from components.transform.files import BATCH, to_record_batch, transform_file

ROWS = 2 * BATCH + 5
SPEC = {
    "row": tf.io.FixedLenFeature([], tf.int64),
    "pair": tf.io.FixedLenFeature([2], tf.float32),
    "events": tf.io.VarLenFeature(tf.int64),
}


def example(row: int) -> bytes:
    feature = {
        "row": tf.train.Feature(int64_list=tf.train.Int64List(value=[row])),
        "events": tf.train.Feature(int64_list=tf.train.Int64List(value=range(row % 4))),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def transform(records: tf.Tensor) -> Any:
    parsed = tf.io.parse_example(records, {"row": SPEC["row"], "events": SPEC["events"]})
    row = tf.cast(parsed["row"], tf.float32)
    return {**parsed, "pair": tf.stack([row, row / 3], axis=1)}


def write(path: Path, rows: int) -> str:
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in range(rows):
            writer.write(example(row))
    return str(path)


def read(path: Path) -> list[bytes]:
    compression = "GZIP" if path.suffix == ".gz" else ""
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path), compression)]


@pytest.mark.parametrize("name", ["part-0", "part-0.gz"])
def test_each_record_stays_in_its_place(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, ROWS)
    target = tmp_path / "target" / name
    target.parent.mkdir()
    transform_file(source, str(target), transform)
    records = read(target)
    parsed = tf.io.parse_example(records, SPEC)
    rows = np.arange(ROWS)
    np.testing.assert_array_equal(parsed["row"], rows)
    np.testing.assert_array_equal(parsed["pair"][:, 1], rows.astype(np.float32) / np.float32(3))
    lengths = tf.RaggedTensor.from_sparse(parsed["events"]).row_lengths()
    np.testing.assert_array_equal(lengths, rows % 4)
    assert [path.name for path in target.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["part-0", "part-0.gz"])
def test_the_same_file_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / name, 100)
    written = []
    for folder in ("one", "other"):
        target = tmp_path / folder / name
        target.parent.mkdir()
        transform_file(source, str(target), transform)
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_a_file_without_records_gives_one_without(tmp_path: Path) -> None:
    source = write(tmp_path / "empty", 0)
    transform_file(source, str(tmp_path / "target"), transform)
    assert read(tmp_path / "target") == []


def test_a_broken_file_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "broken"
    source.write_bytes(Path(write(tmp_path / "whole", 10)).read_bytes()[:-3])
    with pytest.raises(tf.errors.DataLossError):
        transform_file(str(source), str(tmp_path / "target"), transform)
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "whole"}


def test_columns_are_lists() -> None:
    batch = to_record_batch(
        {
            "row": tf.constant([3, 4], tf.int64),
            "pair": tf.constant([[1.0, 2.0], [3.0, 4.0]]),
            "events": tf.sparse.from_dense(tf.constant([[0, 0], [7, 8]], tf.int64)),
        }
    )
    assert batch.to_pydict() == {
        "row": [[3], [4]],
        "pair": [[1.0, 2.0], [3.0, 4.0]],
        "events": [[], [7, 8]],
    }


def test_progress_counts_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "load_transform", lambda graph, keep: transform)
    step = files.TransformFile("graph", total=7)
    step.setup()
    with caplog.at_level("INFO", logger="lengthwise.progress"):
        step.process((write(tmp_path / "source", 3), str(tmp_path / "target")))
    assert len(read(tmp_path / "target")) == 3
    assert (caplog.records[-1].advance, caplog.records[-1].total) == (1, 7)  # type: ignore[attr-defined]


def packable(records: tf.Tensor) -> Any:
    """As :func:`transform`, of two users in turn; each row sees one event more than the one before.

    The number of events known is a list, as where the schema does not say that it is always there;
    the first row has none.
    """
    parsed = tf.io.parse_example(records, {"row": SPEC["row"]})
    row = parsed["row"]
    events = tf.ragged.range(tf.maximum(row - 2, 0), row)
    return {
        "row": row,
        "user_group": row // 10,
        "history_item_id": events.to_sparse(),
        "history_length_total": tf.sparse.from_dense(row[:, tf.newaxis]),
    }


def test_packed_records_hold_the_rows_in_order(tmp_path: Path) -> None:
    source = write(tmp_path / "part", 25)
    transform_file(source, str(tmp_path / "target"), packable, pack_impressions=4)
    records = [tf.train.Example.FromString(record) for record in read(tmp_path / "target")]

    def column(name: str) -> list[list[int]]:
        return [list(r.features.feature[name].int64_list.value) for r in records]

    # The first row has no known place; a user has ten rows.
    assert column("row") == [
        [0], [1, 2, 3, 4], [5, 6, 7, 8], [9], [10, 11, 12, 13], [14, 15, 16, 17], [18, 19],
        [20, 21, 22, 23], [24],
    ]  # fmt: skip
    assert column("history_item_id")[1:3] == [[0, 1, 2, 3], [3, 4, 5, 6, 7]]
    assert column("window_start")[1:3] == [[0, 0, 1, 2], [0, 1, 2, 3]]
    assert column("window_end")[1:3] == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert "history_length_total" not in records[0].features.feature
