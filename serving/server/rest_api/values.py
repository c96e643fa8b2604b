"""JSON values as tensors and as features of a ``tf.Example``."""

from __future__ import annotations

import base64
import binascii
import math
import reprlib
from itertools import chain
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2

from serving.server.errors import Code, ServingError, invalid
from serving.server.tensors import numpy_dtype, type_name

_B64 = "b64"
_INT64 = range(-(2**63), 2**63)
_MOST_FLOAT = float(np.finfo(np.float32).max)
# A message quotes a value, but not a page of it.
_QUOTED = 60
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = _QUOTED
# Far above any tensor's rank, far below what a function may call itself.
_MAX_RANK = 32


def to_array(value: Any, number: int) -> np.ndarray:
    """Returns nested lists as an array of TensorFlow type ``number``.

    Raises:
        ServingError: a value is of another type, or the lists are not of equal lengths.
    """
    dtype = numpy_dtype(number)
    shape = _shape(value)
    if number == types_pb2.DT_STRING:
        return _strings(value, shape)
    if dtype is None or number in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        raise ServingError(
            Code.UNIMPLEMENTED, f"Conversion of JSON Value to type: {type_name(number)}"
        )
    kinds = _kinds(value, len(shape))
    array = _numbers(value, kinds, dtype)
    if array is None or not _is_lossless(array, dtype):
        _explain(value, shape, number)
        raise invalid(f"JSON values do not fit {type_name(number)}")
    if kinds == {int, float} and bool((np.abs(array) > _most_whole(dtype)).any()):
        # Among fractions a whole number that is too large is rounded already.
        _explain(value, shape, number)
    return array.astype(dtype)


def fill_example(value: Any, example: example_pb2.Example) -> None:
    """Writes a JSON object into an empty ``tf.Example``.

    Raises:
        ServingError: names the feature at fault.
    """
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_kind(value)}")
    features = example.features.feature
    for name, content in value.items():
        values = content if isinstance(content, list) else [content]
        _fill_feature(name, values, features[name])


def _fill_feature(name: str, values: list[Any], feature: feature_pb2.Feature) -> None:
    kinds = {_feature_kind(name, value) for value in values}
    if len(kinds) > 1:
        raise invalid(
            f"Unexpected element type in feature: {name} expecting one type, found "
            f"{', '.join(sorted(kinds))}"
        )
    if not kinds:
        return
    kind = kinds.pop()
    if kind == "bytes":
        feature.bytes_list.value.extend(_bytes(value) for value in values)
    elif kind == "float":
        if any(abs(value) > _MOST_FLOAT for value in values if math.isfinite(value)):
            raise invalid(
                f"Feature: {name} Cannot convert JSON value to float without loss of precision."
            )
        feature.float_list.value.extend(values)
    else:
        if any(int(value) not in _INT64 for value in values):
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.extend(int(value) for value in values)


def _feature_kind(name: str, value: Any) -> str:
    if isinstance(value, bool | int):
        return "int64"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str) or _is_b64(value):
        return "bytes"
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {_kind(value)}")


def _kinds(value: Any, rank: int) -> set[type]:
    """Returns the types of the values in nested lists, or others where the lists are not equal."""
    if rank == 0:
        return {type(value)}
    flat = value
    for _ in range(rank - 1):
        flat = chain.from_iterable(flat)
    try:
        return set(map(type, flat))
    except TypeError:
        return {object}


def _numbers(value: Any, kinds: set[type], dtype: np.dtype[Any]) -> np.ndarray | None:
    """Returns an array of the type that the values have, None if they have no common one."""
    # One text among numbers would give every value the room that the text takes.
    if not kinds <= {int, float, bool} or (bool in kinds and len(kinds) > 1):
        return None
    # Numbers of which some fit signed and others unsigned integers alone would become floats.
    unsigned = dtype == np.uint64 and kinds == {int}
    try:
        array = np.array(value, np.uint64 if unsigned else None)
    except (ValueError, OverflowError):
        return None
    if array.dtype.kind not in "biuf":
        return None
    return array


def _is_lossless(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    if not array.size:
        return True
    if dtype.kind == "b" or array.dtype.kind == "b":
        return dtype.kind == array.dtype.kind
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return array.dtype.kind in "iu" and bool(
            (array >= limits.min).all() and (array <= limits.max).all()
        )
    if array.dtype.kind in "iu":
        most = _most_whole(dtype)
        return bool((array <= most).all() and (array >= -most).all())
    finite = array[np.isfinite(array)]
    return bool((np.abs(finite) <= np.finfo(dtype).max).all())


def _most_whole(dtype: np.dtype[Any]) -> int:
    """Returns the largest whole number up to which a floating type holds them one by one."""
    return int(2 ** (np.finfo(dtype).nmant + 1)) - 1


def _strings(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    leaves: list[bytes] = []
    _gather(value, shape, 0, leaves)
    array = np.empty(len(leaves), np.object_)
    array[:] = leaves
    return array.reshape(shape)


def _gather(value: Any, shape: tuple[int, ...], level: int, leaves: list[bytes]) -> None:
    if level == len(shape):
        leaves.append(_bytes(value))
        return
    _check_list(value, shape, level)
    for item in value:
        _gather(item, shape, level + 1, leaves)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if not _is_b64(value):
        raise _wrong_type(value, types_pb2.DT_STRING)
    # Many tools break lines; padding may be left out.
    text = "".join(value[_B64].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"Unable to base64 decode {_quote(text)}") from None


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_B64), str)


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if len(shape) > _MAX_RANK:
            raise invalid(f"JSON Value: lists are nested deeper than {_MAX_RANK} levels")
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _check_list(value: Any, shape: tuple[int, ...], level: int) -> None:
    if not isinstance(value, list):
        raise invalid(
            f"JSON Value: {_quote(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )


def _explain(value: Any, shape: tuple[int, ...], number: int) -> None:
    """Raises an error for the first value that does not fit, if there is one."""
    dtype = np.dtype(numpy_dtype(number))
    if dtype.kind == "f":
        whole, largest = _most_whole(dtype), float(np.finfo(dtype).max)
    elif dtype.kind in "iu":
        integers = range(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) + 1)

    def check(leaf: Any) -> None:
        # Plain comparisons: a body may hold millions of values.
        is_number = isinstance(leaf, int | float) and not isinstance(leaf, bool)
        if dtype.kind == "f" and is_number:
            most = whole if isinstance(leaf, int) else largest
            if abs(leaf) > most and not math.isinf(leaf):
                raise invalid(
                    f"Cannot convert JSON value: {_quote(leaf)} to {type_name(number)} without "
                    "loss of precision."
                )
            return
        fits = (
            isinstance(leaf, bool)
            if dtype.kind == "b"
            else is_number and isinstance(leaf, int) and leaf in integers
        )
        if not fits:
            raise _wrong_type(leaf, number)

    def walk(item: Any, level: int) -> None:
        if level < len(shape):
            _check_list(item, shape, level)
            for each in item:
                walk(each, level + 1)
        elif isinstance(item, list):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        else:
            check(item)

    walk(value, 0)


def _wrong_type(value: Any, number: int) -> ServingError:
    return invalid(
        f"JSON Value: {_quote(value)} Type: {_kind(value)} is not of expected type: "
        f"{type_name(number)}"
    )


def _quote(value: Any) -> str:
    # Nothing is written out that is cut off again; deep nesting would end in a RecursionError.
    text = _REPR.repr(value)
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"


def _kind(value: Any) -> str:
    kinds = {dict: "Object", list: "Array", str: "String", bool: "Bool", type(None): "Null"}
    return kinds.get(type(value), "Number")
