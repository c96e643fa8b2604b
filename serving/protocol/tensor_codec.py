"""numpy arrays to ``TensorProto`` and back, and to the JSON of TF Serving's REST API.

Numbers travel as ``tensor_content``, their bytes as they lie in memory: ``float_val`` and its
kind cost a Python call a value, over a hundred times as much for a few hundred rows.
"""

from __future__ import annotations

import base64
import math
import sys
from typing import Any

import numpy as np

from serving.protocol import messages

_DTYPES: dict[str, type[np.generic]] = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_HALF": np.float16,
    "DT_INT8": np.int8,
    "DT_INT16": np.int16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT8": np.uint8,
    "DT_UINT16": np.uint16,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
    "DT_COMPLEX64": np.complex64,
    "DT_COMPLEX128": np.complex128,
}
STRING = "DT_STRING"

_NAMES_OF_NUMBERS = {number: name for name, number in messages.DATA_TYPES.items()}
_NAMES_OF_DTYPES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_VALUE_FIELDS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    "DT_INT8": "int_val",
    "DT_INT16": "int_val",
    "DT_INT32": "int_val",
    "DT_INT64": "int64_val",
    "DT_UINT8": "int_val",
    "DT_UINT16": "int_val",
    "DT_UINT32": "uint32_val",
    "DT_UINT64": "uint64_val",
    "DT_BOOL": "bool_val",
}


def data_type_name(number: int) -> str:
    """Returns the name of a ``DataType``, such as ``DT_FLOAT``; its number if it has none."""
    return _NAMES_OF_NUMBERS.get(number, str(number))


def encode_tensor(name: str, values: Any) -> Any:
    """Encodes an array as a ``TensorProto``.

    Args:
        name: what to call the input in an error.
        values: an array or nested sequence of numbers, booleans, text or bytes.

    Raises:
        ValueError: the array has a type that no tensor has.
    """
    array = as_array(name, values)
    proto = messages.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if array.dtype == object:
        proto.dtype = messages.DATA_TYPES[STRING]
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.dtype = messages.DATA_TYPES[_NAMES_OF_DTYPES[array.dtype]]
        proto.tensor_content = array.tobytes()
    return proto


def decode_tensor(name: str, proto: Any) -> np.ndarray:
    """Decodes a ``TensorProto``; strings become an object array of bytes.

    Raises:
        ValueError: the tensor is malformed or of a type that numpy does not have.
    """
    kind = data_type_name(proto.dtype)
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError(f"output {name!r}: its shape is not known: {sizes}")
    count = math.prod(sizes)
    if kind == STRING:
        strings = np.empty(count, dtype=object)
        strings[:] = _filled(name, list(proto.string_val), count, b"")
        return strings.reshape(sizes)
    if kind not in _DTYPES:
        raise ValueError(f"output {name!r}: type {kind} has no numpy type")
    dtype = np.dtype(_DTYPES[kind])
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise ValueError(
                f"output {name!r}: {len(proto.tensor_content)} bytes for the shape {sizes} of "
                f"{kind}, which takes {count * dtype.itemsize}"
            )
        return _little_endian(np.frombuffer(proto.tensor_content, dtype)).reshape(sizes)
    return _decode_values(name, proto, kind, count).reshape(sizes)


def as_array(name: str, values: Any) -> np.ndarray:
    """Returns values as an array of a type that a tensor has; text becomes bytes.

    Raises:
        ValueError: the values are of different lengths or of a type that no tensor has.
    """
    # numpy's own text types drop trailing zero bytes and give each value the longest one's room.
    text = isinstance(values, list | tuple) and values and isinstance(values[0], str | bytes)
    try:
        array = np.asarray(values, dtype=object if text else None)
        if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
            array = np.asarray(values, dtype=object)
    except ValueError as error:
        raise ValueError(f"input {name!r}: not a tensor: {error}") from None
    if array.dtype.kind in "USO":
        encoded = np.empty(array.size, dtype=object)
        encoded[:] = [_as_bytes(name, value) for value in array.ravel().tolist()]
        return encoded.reshape(array.shape)
    array = _little_endian(array)
    if array.dtype not in _NAMES_OF_DTYPES:
        raise ValueError(
            f"input {name!r}: type {array.dtype} cannot be sent; accepted are text, bytes and "
            f"{', '.join(str(dtype) for dtype in _NAMES_OF_DTYPES)}"
        )
    return array


def cast(name: str, values: Any, kind: str) -> np.ndarray:
    """Returns values as an array of a named type such as ``DT_INT64``, if none is lost.

    Raises:
        ValueError: the values are of another sort than the type.
    """
    if kind == STRING:
        array = as_array(name, values)
        if array.dtype != object and array.size:
            raise ValueError(f"{name!r}: text is expected, found {array.dtype}")
        return array.astype(object)
    if kind not in _DTYPES:
        raise ValueError(f"{name!r}: type {kind} has no numpy type")
    dtype = np.dtype(_DTYPES[kind])
    array = as_array(name, values)
    if array.dtype == object:
        raise ValueError(f"{name!r}: {dtype} is expected, found text")
    if dtype.kind in "iu" and array.dtype.kind == "f" and array.size:
        raise ValueError(f"{name!r}: whole numbers are expected, found {array.dtype}")
    converted = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise ValueError(f"{name!r}: a value is outside the range of {dtype}")
    return converted


def to_json(name: str, values: Any) -> Any:
    """Returns an array as JSON of the REST API: nested lists, bytes as ``{"b64": …}``."""
    array = as_array(name, values)
    if array.dtype.kind == "c":
        raise ValueError(f"input {name!r}: {array.dtype} cannot be sent as JSON")
    if array.dtype != object:
        return array.tolist()
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [b64(value) for value in array.ravel().tolist()]
    return encoded.reshape(array.shape).tolist()


def from_json(name: str, value: Any, kind: str) -> np.ndarray:
    """Returns JSON of the REST API as an array of a named type such as ``DT_FLOAT``.

    Raises:
        ValueError: the JSON is of another sort than the type.
    """
    return cast(name, _without_b64(value) if kind == STRING else value, kind)


def b64(value: bytes) -> dict[str, str]:
    """Returns bytes as the REST API writes them."""
    return {"b64": base64.b64encode(value).decode("ascii")}


def _without_b64(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_b64(one) for one in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return value


def _decode_values(name: str, proto: Any, kind: str, count: int) -> np.ndarray:
    dtype = np.dtype(_DTYPES[kind])
    if kind == "DT_HALF":
        bits = np.asarray(_filled(name, list(proto.half_val), count, 0), dtype=np.uint16)
        return bits.view(np.float16)
    if kind in ("DT_COMPLEX64", "DT_COMPLEX128"):
        parts = proto.scomplex_val if kind == "DT_COMPLEX64" else proto.dcomplex_val
        pairs = np.asarray(parts, dtype=np.float64).reshape(-1, 2)
        numbers = list(pairs[:, 0] + 1j * pairs[:, 1])
        return np.asarray(_filled(name, numbers, count, 0), dtype=dtype)
    values = list(getattr(proto, _VALUE_FIELDS[kind]))
    return np.asarray(_filled(name, values, count, 0), dtype=dtype)


def _filled(name: str, values: list[Any], count: int, default: Any) -> list[Any]:
    """Repeats the last value up to ``count``, which is what a short list of values means."""
    if len(values) > count:
        raise ValueError(f"output {name!r}: {len(values)} values for a shape of {count}")
    last = values[-1] if values else default
    return values + [last] * (count - len(values))


def _little_endian(array: np.ndarray) -> np.ndarray:
    """TensorFlow writes the bytes of the machine; every machine it serves on is little-endian."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        return array.astype(array.dtype.newbyteorder("<"))
    return array


def _as_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise ValueError(
        f"input {name!r}: text, bytes or numbers of one shape are accepted, found "
        f"{type(value).__name__}"
    )
