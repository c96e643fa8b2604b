"""``TensorProto`` to numpy and back.

``tensor_content`` is read in place. Answers are written to the typed fields, as TensorFlow Serving
writes them: a client that reads ``float_val`` works with either server.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.errors import invalid

# Field of a TensorProto that holds values of a type one by one.
_FIELDS = {
    types_pb2.DT_FLOAT: ("float_val", np.dtype(np.float32)),
    types_pb2.DT_DOUBLE: ("double_val", np.dtype(np.float64)),
    types_pb2.DT_INT64: ("int64_val", np.dtype(np.int64)),
    types_pb2.DT_INT32: ("int_val", np.dtype(np.int32)),
    types_pb2.DT_INT16: ("int_val", np.dtype(np.int16)),
    types_pb2.DT_INT8: ("int_val", np.dtype(np.int8)),
    types_pb2.DT_UINT8: ("int_val", np.dtype(np.uint8)),
    types_pb2.DT_UINT16: ("int_val", np.dtype(np.uint16)),
    types_pb2.DT_UINT32: ("uint32_val", np.dtype(np.uint32)),
    types_pb2.DT_UINT64: ("uint64_val", np.dtype(np.uint64)),
    types_pb2.DT_BOOL: ("bool_val", np.dtype(np.bool_)),
    types_pb2.DT_HALF: ("half_val", np.dtype(np.float16)),
    types_pb2.DT_BFLOAT16: ("half_val", np.dtype(ml_dtypes.bfloat16)),
    types_pb2.DT_STRING: ("string_val", np.dtype(np.object_)),
}
_BY_DTYPE = {
    dtype: (number, field) for number, (field, dtype) in _FIELDS.items() if dtype != np.object_
}
_BITS = {types_pb2.DT_HALF, types_pb2.DT_BFLOAT16}
# What numpy takes: dimensions, and bytes of all sizes but those of 0.
_MAX_RANK = 64
_MAX_BYTES = 2**63 - 1


def numpy_dtype(number: int) -> np.dtype[Any] | None:
    """Returns the numpy type of a TensorFlow type, object for strings, None if there is none."""
    entry = _FIELDS.get(number)
    return None if entry is None else entry[1]


def type_name(number: int) -> str:
    """Returns the name of a TensorFlow type, such as ``int64``."""
    try:
        return str(tf.dtypes.as_dtype(number).name)
    except TypeError:
        return f"type {number}"


def to_array(proto: tensor_pb2.TensorProto, name: str, max_bytes: int) -> np.ndarray:
    """Reads a tensor; strings become an array of ``bytes`` objects.

    Args:
        proto: the tensor.
        name: what to call it in an error.
        max_bytes: largest array; a few bytes of a message can ask for any size.

    Raises:
        ServingError: it is not a tensor that can be read.
    """
    entry = _FIELDS.get(proto.dtype)
    if entry is None:
        raise invalid(f"input {name!r}: tensors of {type_name(proto.dtype)} are not supported")
    field, dtype = entry
    shape = _shape(proto, name, dtype.itemsize)
    count = math.prod(shape)
    if count * dtype.itemsize > max_bytes:
        raise invalid(
            f"input {name!r}: shape {list(shape)} of {type_name(proto.dtype)} is larger than the "
            f"{max_bytes} bytes that a request may have"
        )
    content = proto.tensor_content
    if content:
        return _from_content(proto, name, dtype, shape)
    values = getattr(proto, field)
    found = len(values)
    if found == count:
        return _from_values(values, dtype, proto.dtype).reshape(shape)
    if 0 < found < count:
        # A tensor may leave out what repeats its last value.
        flat = _from_values(values, dtype, proto.dtype)
        return np.concatenate([flat, np.full(count - found, flat[-1], dtype)]).reshape(shape)
    raise invalid(
        f"input {name!r}: shape {list(shape)} has {count} values, found {found} in {field}"
    )


def fill_proto(array: np.ndarray, number: int, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array of TensorFlow type ``number`` into an empty ``proto``."""
    entry = _BY_DTYPE.get(array.dtype)
    if entry is None and number != types_pb2.DT_STRING:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = number
    dimensions = proto.tensor_shape.dim
    for size in array.shape:
        dimensions.add().size = size
    if entry is None:
        proto.string_val.extend(array.ravel().tolist())
        return
    flat = array.ravel()
    if number in _BITS:
        flat = flat.view(np.uint16)
    getattr(proto, entry[1]).extend(flat.tolist())


def _shape(proto: tensor_pb2.TensorProto, name: str, item_bytes: int) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise invalid(f"input {name!r}: a shape is expected, found an unknown rank")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise invalid(f"input {name!r}: sizes of at least 0 are expected, found {list(shape)}")
    if len(shape) > _MAX_RANK:
        raise invalid(
            f"input {name!r}: at most {_MAX_RANK} dimensions are supported, found {len(shape)}"
        )
    if math.prod(size or 1 for size in shape) * item_bytes > _MAX_BYTES:
        raise invalid(f"input {name!r}: no tensor can have the shape {list(shape)}")
    return shape


def _from_content(
    proto: tensor_pb2.TensorProto, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> np.ndarray:
    content = proto.tensor_content
    if dtype == np.object_:
        return _strings_from_content(proto, name)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise invalid(
            f"input {name!r}: shape {list(shape)} of {type_name(proto.dtype)} takes "
            f"{math.prod(shape) * dtype.itemsize} bytes, found {len(content)} in tensor_content"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _strings_from_content(proto: tensor_pb2.TensorProto, name: str) -> np.ndarray:
    # Only TensorFlow itself knows how it lays strings out.
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
    except tf.errors.OpError:
        raise invalid(
            f"input {name!r}: tensor_content does not hold strings of shape "
            f"{[dimension.size for dimension in proto.tensor_shape.dim]}"
        ) from None


def _from_values(values: Any, dtype: np.dtype[Any], number: int) -> np.ndarray:
    if number == types_pb2.DT_STRING:
        flat = np.empty(len(values), np.object_)
        flat[:] = list(values)
        return flat
    # half_val and int_val have room for more than these types; what does not fit is cut, as
    # TensorFlow cuts it.
    if number in _BITS:
        return np.fromiter(values, np.int64, len(values)).astype(np.uint16).view(dtype)
    cut = dtype.kind in "iu" and dtype.itemsize <= 4
    return np.fromiter(values, np.int64 if cut else dtype, len(values)).astype(dtype, copy=False)
