"""Examples and TFRecord files against TensorFlow's own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.protocol import messages
from serving.protocol.tf_examples import check, read_records, serialize
from tests.serving.fake_model import framed

RECORDS = [b"", b"one", b"\x00" * 1000, bytes(range(256))]


def write_records(path: Path, records: list[bytes], compression: str = "") -> Path:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_records_that_tensorflow_writes_are_read(tmp_path: Path, compression: str) -> None:
    path = write_records(tmp_path / "rows", RECORDS, compression)

    assert list(read_records(path)) == RECORDS


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "rows").touch()

    assert list(read_records(tmp_path / "rows")) == []


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, compression: str) -> None:
    path = write_records(tmp_path / "rows", RECORDS, compression)
    whole = path.read_bytes()

    for size in (len(whole) - 1, len(whole) - 5, len(whole) // 2, 5):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"rows: .*(ends within|checksum)"):
            list(read_records(path))


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = write_records(tmp_path / "rows", [b"one", b"two"])
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)

    records = read_records(path)

    assert next(records) == b"one"
    with pytest.raises(ValueError, match="record 2: its checksum is wrong"):
        next(records)


def test_a_changed_byte_of_a_compressed_file_is_noticed(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole = gzip.compress(b"".join(framed([random.bytes(200)]) for _ in range(20)))
    path = tmp_path / "rows"

    for place in range(10, len(whole), 23):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=str(path)):
            list(read_records(path))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("user,item\n1,2\n" * 10)

    with pytest.raises(ValueError, match="record 1: its checksum is wrong; not a TFRecord"):
        list(read_records(tmp_path / "rows"))


def test_values_become_the_features_that_tensorflow_reads() -> None:
    import tensorflow as tf

    serialized = serialize(
        {
            "item_id": 7,
            "history": [3, 2**62],
            "price": 0.5,
            "name": "é",
            "raw": [b"\x00", b"a"],
            "flag": True,
            "ages": np.float32([1, 2]),
            "none": None,
            "empty": [],
        }
    )

    features = tf.train.Example.FromString(serialized).features.feature
    assert set(features) == {"item_id", "history", "price", "name", "raw", "flag", "ages"}
    assert list(features["item_id"].int64_list.value) == [7]
    assert list(features["history"].int64_list.value) == [3, 2**62]
    assert list(features["price"].float_list.value) == [0.5]
    assert list(features["name"].bytes_list.value) == ["é".encode()]
    assert list(features["raw"].bytes_list.value) == [b"\x00", b"a"]
    assert list(features["flag"].int64_list.value) == [1]
    assert list(features["ages"].float_list.value) == [1, 2]


def test_equal_values_are_equal_bytes() -> None:
    names = [f"f{number}" for number in range(50)]

    assert serialize(dict.fromkeys(names, 1)) == serialize(dict.fromkeys(reversed(names), 1))


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], ["a", 1], [None], object()])
def test_what_no_feature_holds_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="feature 'x'"):
        serialize({"x": value})


@pytest.mark.parametrize("value", [2**63, [1, 2**63], -(2**63) - 1, np.uint64([2**63])])
def test_a_whole_number_of_more_than_64_bits_does_not_become_another(value: Any) -> None:
    with pytest.raises(ValueError, match="feature 'x'"):
        serialize({"x": value})
    ends = serialize({"x": [-(2**63), 2**63 - 1], "y": np.uint64([2**63 - 1])})
    features = messages.Example.FromString(ends).features.feature
    assert list(features["x"].int64_list.value) == [-(2**63), 2**63 - 1]
    assert list(features["y"].int64_list.value) == [2**63 - 1]


@pytest.mark.parametrize("value", [1e39, [0.5, -1e39], np.array([1e300])])
def test_a_number_that_is_too_large_does_not_become_infinite(value: Any) -> None:
    with pytest.raises(ValueError, match=r"'price'.* 3\.4"):
        serialize({"price": value})

    kept = messages.Example.FromString(serialize({"price": [float("inf"), 3.4e38]}))
    assert kept.features.feature["price"].float_list.value[0] == float("inf")


def test_bytes_of_an_example_are_checked() -> None:
    assert check(messages.Example().SerializeToString()) == b""
    with pytest.raises(ValueError, match="not a serialized"):
        check(b"\xff\xff")
