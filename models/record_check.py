"""Finds the record that an input error is about; TensorFlow names neither file nor record."""

from __future__ import annotations

import gzip
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

# A clear error is due within a minute; reading all of a large log again would take longer.
SEARCH_SECONDS = 40.0
_BATCH = 512
_HEADER = struct.Struct("<Q4x")
_FOOTER_BYTES = 4
_READ_BYTES = 1 << 20
_OFFSET = re.compile(r"record at (\d+)")


def find_bad_record(
    files: Sequence[str],
    parse: Callable[[tf.Tensor], object],
    *,
    search_seconds: float = SEARCH_SECONDS,
) -> str | None:
    """Names the first record that cannot be read or parsed.

    Args:
        files: TFRecord files, compressed if they end in ``.gz``.
        parse: parses serialized examples [rows], and raises on a bad one.
        search_seconds: how long to search.

    Returns:
        File, record and fault; or that the search was cut short; or nothing if all are good.
    """
    deadline = time.monotonic() + search_seconds
    for number, path in enumerate(files):
        fault = _find_in_file(path, parse, deadline)
        if fault:
            return f"{path}: {fault}"
        if time.monotonic() > deadline:
            return f"the first {number} of {len(files)} files are good, the others unsearched"
    return None


def find_cut_file(files: Sequence[str]) -> str | None:
    """Names the first compressed file without its end, which TensorFlow takes for a whole one."""
    for path in files:
        fault = _describe_end(path) if path.endswith(".gz") else None
        if fault:
            return f"{path}: {fault}"
    return None


def _find_in_file(path: str, parse: Callable[[tf.Tensor], object], deadline: float) -> str | None:
    kind = "GZIP" if path.endswith(".gz") else ""
    done = 0
    batches = iter(tf.data.TFRecordDataset(path, kind, buffer_size=1 << 20).batch(_BATCH))
    while time.monotonic() < deadline:
        try:
            records = next(batches)
        except StopIteration:
            return _describe_end(path) if kind else None
        except tf.errors.OpError as error:
            return _describe_damage(path, error)
        fault = _first_unparsable(records, parse)
        if fault is not None:
            index, cause = fault
            return f"record {done + index + 1} cannot be used: {_first_line(cause)}"
        done += int(tf.size(records))
    return None


def _first_unparsable(
    records: tf.Tensor, parse: Callable[[tf.Tensor], object]
) -> tuple[int, tf.errors.OpError] | None:
    try:
        parse(records)
        return None
    except tf.errors.InvalidArgumentError:
        for index in range(int(tf.size(records))):
            try:
                parse(records[index : index + 1])
            except tf.errors.InvalidArgumentError as fault:
                return index, fault
    return None


def _describe_end(path: str) -> str | None:
    """Tells of a compressed file that lacks its end, or is none."""
    if not os.path.getsize(path):
        return "empty, without even the header of a compressed file"
    with gzip.open(path) as file:
        try:
            while file.read(_READ_BYTES):
                pass
        except EOFError:
            return "cut off behind its last whole record"
        except (gzip.BadGzipFile, zlib.error) as error:
            return f"damaged: {error}"
    return None


def _describe_damage(path: str, error: tf.errors.OpError) -> str:
    found = _OFFSET.search(error.message)
    if not found:
        return f"damaged: {_first_line(error)}"
    index, begin = _record_at(path, int(found.group(1)))
    return f"record {index + 1}, at byte {begin}, is truncated or corrupt"


def _record_at(path: str, offset: int) -> tuple[int, int]:
    """Finds the record that a byte of the uncompressed file lies in: its index and its begin."""
    index = begin = 0
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        try:
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                end = begin + _HEADER.size + _HEADER.unpack(header)[0] + _FOOTER_BYTES
                if end > offset:
                    break
                file.seek(end)
                index, begin = index + 1, end
        except EOFError:
            # A compressed file that is cut off: what there is of it has been counted.
            pass
    return index, begin


def _first_line(error: tf.errors.OpError) -> str:
    return str(error.message).strip().partition("\n")[0][:300]
