"""``tf.Example``s without TensorFlow: made from plain values, checked, read from TFRecord files."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from serving.protocol import messages

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_CRC_MASK = 0xA282EAD8
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


def serialize(values: Mapping[str, Any]) -> bytes:
    """Serializes values by feature name as a ``tf.Example``.

    Whole numbers and booleans become int64, other numbers float, text and bytes bytes; None and
    an empty list are a feature that is not there.

    Raises:
        ValueError: a value is none of these; names the feature.
    """
    example = messages.Example()
    for name, value in values.items():
        if value is None:
            continue
        many = value if isinstance(value, list | tuple | np.ndarray) else [value]
        array = np.asarray(many)
        if array.ndim != 1:
            raise ValueError(f"feature {name!r}: one value or a flat list is accepted")
        if not array.size:
            continue
        feature = example.features.feature[name]
        if _is_beyond_int64(many, array):
            raise ValueError(
                f"feature {name!r}: whole numbers from -2**63 to 2**63 - 1 are accepted, found "
                f"{value!r}"
            )
        if array.dtype.kind in "biu":
            feature.int64_list.value.extend(array.astype(np.int64).tolist())
        elif array.dtype.kind == "f":
            if (np.abs(array[np.isfinite(array)]) > _LARGEST_FLOAT).any():
                raise ValueError(
                    f"feature {name!r}: numbers of at most {_LARGEST_FLOAT:g} are accepted, found "
                    f"{value!r}"
                )
            feature.float_list.value.extend(array.tolist())
        elif all(isinstance(one, str | bytes) for one in many):
            feature.bytes_list.value.extend(
                one.encode("utf-8") if isinstance(one, str) else bytes(one) for one in many
            )
        else:
            raise ValueError(
                f"feature {name!r}: numbers, text or bytes of one sort are accepted, found "
                f"{value!r}"
            )
    return example.SerializeToString(deterministic=True)


def _is_beyond_int64(many: Any, array: np.ndarray) -> bool:
    """Whether there are whole numbers that numpy has, or has as floats, and an example has not."""
    if array.dtype.kind == "u":
        return bool(array.max() > _LARGEST_INT)
    if array.dtype.kind == "f" and not isinstance(many, np.ndarray):
        return any(isinstance(one, int) and abs(one) > _LARGEST_INT for one in many)
    return False


def check(serialized: bytes) -> bytes:
    """Returns bytes that are a serialized ``tf.Example``.

    Raises:
        ValueError: they are not.
    """
    try:
        messages.Example.FromString(serialized)
    except DecodeError as error:
        raise ValueError(f"examples: not a serialized tf.Example: {error}") from None
    return serialized


def read_records(path: Path) -> Iterator[bytes]:
    """Reads a TFRecord file, compressed with gzip or not.

    Raises:
        ValueError: the file is damaged or is not a TFRecord file; names the record.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        compressed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        stream: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        try:
            yield from _records(path, stream)
        except EOFError:
            raise ValueError(f"{path}: ends within a compressed block") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: cannot be unpacked: {error}") from None


def _records(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    number = 0
    while header := stream.read(_LENGTH.size):
        number += 1
        where = f"{path}: record {number}"
        _check_crc(header, stream.read(_CRC.size), _LENGTH.size, where)
        (size,) = _LENGTH.unpack(header)
        record = stream.read(size)
        _check_crc(record, stream.read(_CRC.size), size, where)
        yield record


def _check_crc(data: bytes, stored: bytes, size: int, where: str) -> None:
    if len(data) != size or len(stored) != _CRC.size:
        raise ValueError(f"{where}: the file ends within it")
    crc = google_crc32c.value(data)
    masked = (((crc >> 15) | (crc << 17)) + _CRC_MASK) & 0xFFFFFFFF
    if stored != _CRC.pack(masked):
        raise ValueError(f"{where}: its checksum is wrong; not a TFRecord file, or damaged")
