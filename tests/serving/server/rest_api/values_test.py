"""JSON values as tensors: what would become another number, or take more room than it came in."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.server.errors import Code, ServingError
from serving.server.rest_api.values import to_array


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        ([16777217, 0.5], tf.float32, ["16777217", "loss of precision"]),
        ([[0.5], [-16777217]], tf.float32, ["-16777217", "loss of precision"]),
        ([2**53 + 1, 0.5], tf.float64, ["9007199254740993", "loss of precision"]),
        ([0.5, 1e39], tf.float32, ["1e+39", "loss of precision"]),
        ([True, 0.5], tf.float32, ["True", "Bool"]),
        ([5, True], tf.int64, ["True", "Bool"]),
        ([True, 0], tf.bool, ["0", "Number"]),
        ([1, None], tf.int64, ["None", "Null"]),
        ([[1.0], {}], tf.float32, ["{}", "incorrect level"]),
        ([[1.0], "a"], tf.float32, ["'a'", "incorrect level"]),
        ([1, -1], tf.uint64, ["-1", "uint64"]),
        ([1, 2.0], tf.uint64, ["2.0", "uint64"]),
        ([1, 300], tf.uint8, ["300", "uint8"]),
    ],
)
def test_a_value_that_does_not_fit_is_named(value: Any, dtype: tf.DType, words: list[str]) -> None:
    with pytest.raises(ServingError) as caught:
        to_array(value, dtype.as_datatype_enum)

    assert caught.value.code is Code.INVALID_ARGUMENT
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([16777217.0, 0.5], tf.float32),
        ([16777215, 0.5], tf.float32),
        ([float("inf"), 1], tf.float32),
        ([2**64 - 1, 1, 2**63], tf.uint64),
        ([-(2**63), 2**63 - 1], tf.int64),
        ([[], []], tf.float32),
        ([], tf.int64),
    ],
)
def test_a_value_that_fits_is_kept(value: Any, dtype: tf.DType) -> None:
    found = to_array(value, dtype.as_datatype_enum)

    np.testing.assert_array_equal(found, np.array(value, dtype.as_numpy_dtype))


def test_a_text_among_numbers_does_not_take_its_room_for_each_of_them() -> None:
    value = [1.0] * 5000 + ["a" * 5000]
    tracemalloc.start()
    try:
        with pytest.raises(ServingError, match="String"):
            to_array(value, tf.float32.as_datatype_enum)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5_000_000
