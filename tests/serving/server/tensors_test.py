"""Tensors whose values do not fit their type, read as TensorFlow itself reads them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.server.tensors import to_array


@pytest.mark.parametrize(
    ("dtype", "field", "values"),
    [
        (tf.uint8, "int_val", [300, -1]),
        (tf.uint16, "int_val", [70_000, -1]),
        (tf.int8, "int_val", [300, -300]),
        (tf.int16, "int_val", [70_000, -70_000]),
        (tf.float16, "half_val", [0x13C00, 0x3800]),
        (tf.bfloat16, "half_val", [0x13F80, 0x3F00]),
        (tf.uint32, "uint32_val", [2**32 - 1, 5]),
        (tf.uint64, "uint64_val", [2**64 - 1, 5]),
    ],
)
def test_what_does_not_fit_is_cut_as_tensorflow_cuts_it(
    dtype: tf.DType, field: str, values: list[int]
) -> None:
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.dim.add().size = 2
    getattr(proto, field).extend(values)

    found = to_array(proto, "x", 1000)

    expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
