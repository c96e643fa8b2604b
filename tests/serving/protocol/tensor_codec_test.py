"""Tensors against TensorFlow's own encoding, and malformed ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.protocol import messages
from serving.protocol.tensor_codec import (
    as_array,
    cast,
    decode_tensor,
    encode_tensor,
    from_json,
    to_json,
)

ARRAYS = [
    np.array([[1.5, -2.0], [np.nan, np.inf]], dtype=np.float32),
    np.array([1e300, -0.0], dtype=np.float64),
    np.array([0.5, 65504], dtype=np.float16),
    np.array([-128, 127], dtype=np.int8),
    np.array([-(2**15)], dtype=np.int16),
    np.array([[2**31 - 1]], dtype=np.int32),
    np.array([2**63 - 1, -(2**63)], dtype=np.int64),
    np.array([255], dtype=np.uint8),
    np.array([65535], dtype=np.uint16),
    np.array([2**32 - 1], dtype=np.uint32),
    np.array([2**64 - 1], dtype=np.uint64),
    np.array([True, False]),
    np.array([1 + 2j], dtype=np.complex64),
    np.array([1 - 2j], dtype=np.complex128),
    np.array(7, dtype=np.int64),
    np.zeros((0, 3), dtype=np.float32),
    np.array([[b"a\x00", b""], [b"\xff", b"bc"]], dtype=object),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_tensorflow_reads_what_is_encoded(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    sent = encode_tensor("x", array).SerializeToString()
    read = tf.make_ndarray(tensor_pb2.TensorProto.FromString(sent))

    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_what_tensorflow_encodes_is_read(array: np.ndarray) -> None:
    import tensorflow as tf

    proto = tf.make_tensor_proto(array)
    read = decode_tensor("x", messages.TensorProto.FromString(proto.SerializeToString()))

    assert read.dtype == array.dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_values_in_fields_are_read(array: np.ndarray) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.python.framework import tensor_util

    proto = tensor_pb2.TensorProto(
        dtype=tf.as_dtype(array.dtype).as_datatype_enum,
        tensor_shape=tf.TensorShape(array.shape).as_proto(),
    )
    if array.size:
        tensor_util.GetNumpyAppendFn(array.dtype)(proto, array.ravel())
    assert not proto.tensor_content

    read = decode_tensor("x", messages.TensorProto.FromString(proto.SerializeToString()))

    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_numbers_travel_as_their_bytes() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)

    proto = encode_tensor("x", array)

    assert proto.tensor_content == array.tobytes()
    assert not proto.int64_val


def test_an_array_in_any_layout_is_sent_row_by_row() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    for same in (np.asfortranarray(array), array.astype(">f4"), array[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(decode_tensor("x", encode_tensor("x", same)), array)


def test_one_value_fills_a_shape() -> None:
    proto = messages.TensorProto(dtype=1, float_val=[2.0])
    proto.tensor_shape.dim.add().size = 3

    np.testing.assert_array_equal(decode_tensor("x", proto), np.float32([2, 2, 2]))


def malformed(**fields: Any) -> Any:
    proto = messages.TensorProto(**{"dtype": 1, **fields})
    proto.tensor_shape.dim.add().size = 2
    return proto


@pytest.mark.parametrize(
    ("proto", "text"),
    [
        (malformed(tensor_content=b"12345"), "5 bytes for the shape"),
        (malformed(float_val=[1, 2, 3]), "3 values for a shape of 2"),
        (malformed(dtype=20), "DT_RESOURCE"),
        (malformed(dtype=0), "DT_INVALID"),
        (malformed(dtype=7, string_val=[b"a"] * 3), "3 values"),
    ],
)
def test_a_malformed_tensor_is_refused_by_name(proto: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        decode_tensor("score", proto)
    assert "'score'" in str(caught.value)


def test_an_unknown_shape_is_refused() -> None:
    proto = messages.TensorProto(dtype=1)
    proto.tensor_shape.dim.add().size = -1

    with pytest.raises(ValueError, match="shape is not known"):
        decode_tensor("score", proto)


@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [3]],
        [None, 1.0],
        {"a": 1},
        ["a", 1],
        [b"a", None],
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        [object()],
    ],
)
def test_what_is_no_tensor_is_refused_by_name(values: Any) -> None:
    with pytest.raises(ValueError, match="'item_id'"):
        as_array("item_id", values)


def test_text_keeps_its_zero_bytes() -> None:
    assert as_array("x", [b"a\x00", b"bcd"]).tolist() == [b"a\x00", b"bcd"]
    assert as_array("x", [["é"], ["b"]]).tolist() == [["é".encode()], [b"b"]]
    assert as_array("x", np.array(["u", "vw"])).tolist() == [b"u", b"vw"]


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("DT_FLOAT", np.float32([[0.1, np.nan], [np.inf, -np.inf]])),
        ("DT_DOUBLE", np.array([0.1, 1e-300])),
        ("DT_INT64", np.array([2**63 - 1, -5])),
        ("DT_UINT64", np.array([2**64 - 1], dtype=np.uint64)),
        ("DT_BOOL", np.array([[True], [False]])),
        ("DT_STRING", np.array([b"\xff\x00", b"a"], dtype=object)),
        ("DT_FLOAT", np.zeros((2, 0), dtype=np.float32)),
        ("DT_STRING", np.array(b"one", dtype=object)),
    ],
)
def test_json_brings_back_the_array(kind: str, array: np.ndarray) -> None:
    text = json.dumps(to_json("x", array))

    read = from_json("x", json.loads(text), kind)

    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_json_of_plain_text_is_read_as_bytes() -> None:
    assert from_json("x", ["a", {"b64": "/w=="}], "DT_STRING").tolist() == [b"a", b"\xff"]


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([1.5], "DT_INT64", "whole numbers are expected"),
        (["a"], "DT_FLOAT", "found text"),
        ([1], "DT_STRING", "text is expected"),
        ([300], "DT_INT8", "outside the range"),
        ([-1], "DT_UINT8", "outside the range"),
        ([1], "DT_VARIANT", "DT_VARIANT"),
    ],
)
def test_a_cast_that_would_lose_something_is_refused(values: Any, kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        cast("x", values, kind)


def test_a_cast_of_nothing_has_the_type() -> None:
    assert cast("x", [], "DT_INT64").dtype == np.int64
    assert cast("x", [], "DT_STRING").dtype == object
