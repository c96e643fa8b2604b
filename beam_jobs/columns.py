"""Small operations on Arrow columns that the examples job is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas import features
from schemas.dataset_sections import FieldType

ARROW_TYPES = {
    FieldType.INT: pa.int64(),
    FieldType.STRING: pa.string(),
    FieldType.FLOAT: pa.float32(),
}
_INTEGER_TEXT = r"^[+-]?[0-9]+(\.0*)?$"
_LARGEST = str(2**63 - 1)


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def convert(
    column: pa.Array, kind: FieldType, missing: tuple[str | int | float, ...] = ()
) -> tuple[pa.Array, np.ndarray]:
    """Converts a raw column to a contract type.

    Args:
        column: values of any primitive type.
        kind: the type wanted.
        missing: values that stand for a missing one.

    Returns:
        The converted column, null where a value is missing or invalid, and a mask of the
        values that are there but cannot be converted.
    """
    if pa.types.is_float16(column.type):
        # Arrow computes little with them.
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        # Many writers of Parquet have no other word for a missing value; as text it were "nan".
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    raw, column = column, plain(column)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), ARROW_TYPES[kind]), np.zeros(len(column), bool)
    is_no_text = np.asarray(raw.is_valid()) & ~np.asarray(column.is_valid())
    column = _without_missing(column, missing)
    present = np.asarray(column.is_valid())
    if kind is FieldType.STRING:
        converted = _to_string(column)
    elif kind is FieldType.INT:
        converted = _to_int(column)
    else:
        converted = _to_float(column)
    invalid = is_no_text | (present & ~np.asarray(converted.is_valid()))
    # A missing value may be written another way, such as -124.0 for -124.
    return _without_missing(converted, missing), invalid


def plain(column: pa.Array) -> pa.Array:
    """Returns a column without a dictionary, and decimals and bytes as text.

    Null where bytes are no UTF-8.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            return pa.array([_decoded(value) for value in column.to_pylist()], pa.string())
    return column


def fill_missing(column: pa.Array, kind: FieldType) -> pa.Array:
    """Gives missing categories their contract value; missing numbers stay null."""
    if kind is FieldType.INT:
        return pc.fill_null(column, features.MISSING_INT)
    if kind is FieldType.STRING:
        return pc.fill_null(column, features.MISSING_STRING)
    return column


def ordinals(column: pa.Array) -> np.ndarray:
    """Returns int64 codes that sort and compare as the values of ``column`` do.

    Codes of strings only compare within this one column.
    """
    column = single(column)
    if pa.types.is_integer(column.type):
        return np.asarray(column.cast(pa.int64()))
    encoded = column.dictionary_encode()
    order = np.asarray(pc.sort_indices(encoded.dictionary))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[np.asarray(encoded.indices)]


def hashes(column: pa.Array) -> np.ndarray:
    """Returns a 64-bit hash of each value, the same in every process and on every machine."""
    column = single(column)
    if pa.types.is_integer(column.type):
        return pd.util.hash_array(np.asarray(column.cast(pa.int64())))
    encoded = column.dictionary_encode()
    values = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    return pd.util.hash_array(values, categorize=False)[np.asarray(encoded.indices)]


def mix(*parts: np.ndarray | int) -> np.ndarray:
    """Mixes integers into one uint64 hash for each position (the finaliser of SplitMix64)."""
    state: np.ndarray = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            state = (state ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def to_ipc(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Serialises a batch or table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write(batch)
    return sink.getvalue().to_pybytes()


def from_ipc(data: bytes) -> pa.Table:
    """Reads what :func:`to_ipc` wrote."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def concat(parts: list[bytes]) -> pa.Table:
    """Concatenates serialised tables of one schema into a table of one chunk."""
    return pa.concat_tables([from_ipc(part) for part in parts]).combine_chunks()


def _without_missing(column: pa.Array, missing: tuple[str | int | float, ...]) -> pa.Array:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        # Empty text stands for a missing value in every format, as in CSV.
        values = pa.array(["", *(str(m) for m in missing)])
    else:
        values = _numbers(missing, column.type)
    if not len(values):
        return column
    found = pc.is_in(column, value_set=values.cast(column.type))
    return pc.if_else(found, pa.scalar(None, column.type), column)


def _numbers(missing: tuple[str | int | float, ...], kind: pa.DataType) -> pa.Array:
    """Returns the numbers among ``missing`` that a column of a type can hold at all."""
    numbers = []
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        for value in missing:
            try:
                numbers.append(pa.array([value], kind))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                continue
    return pa.concat_arrays(numbers) if numbers else pa.array([], kind)


def _to_string(column: pa.Array) -> pa.Array:
    try:
        text = column.cast(pa.string())
        if pa.types.is_floating(column.type):
            # 12345678901.0 is the identifier that another file has as 12345678901.
            return pc.coalesce(_to_int(column).cast(pa.string()), text)
        return text
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(column), pa.string())


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _to_int(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_uint64(kind):
        fits = pc.less_equal(column, pa.scalar(2**63 - 1, kind))
        return pc.if_else(fits, column, pa.scalar(None, kind)).cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(column, pc.round(column)), pc.less(pc.abs(column), 1e18))
        return pc.if_else(whole, column, pa.scalar(None, kind)).cast(pa.int64(), safe=False)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_to_int(column)
    return pa.nulls(len(column), pa.int64())


def _text_to_int(text: pa.Array) -> pa.Array:
    try:
        # What one row holds must not decide what another means: the cast knows hexadecimal
        # numbers, but only where all rows are numbers.
        if not pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py():
            return text.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    text = pc.utf8_trim_whitespace(text)
    good = pc.match_substring_regex(text, _INTEGER_TEXT)
    text = pc.if_else(good, text, pa.scalar(None, text.type))
    text = pc.replace_substring_regex(text, r"(^\+)|(\.0*$)", "")
    digits = pc.utf8_ltrim(pc.replace_substring_regex(text, "^-", ""), "0")
    length = pc.utf8_length(digits)
    same_length = pc.and_(pc.equal(length, len(_LARGEST)), pc.less_equal(digits, _LARGEST))
    fits = pc.or_(pc.less(length, len(_LARGEST)), same_length)
    return pc.if_else(fits, text, pa.scalar(None, text.type)).cast(pa.int64())


def _to_float(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            numbers = pd.to_numeric(column.to_pandas(), errors="coerce")
            column = pa.array(numbers.to_numpy(float, na_value=np.nan), from_pandas=True)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return pa.nulls(len(column), pa.float32())
    numbers = column.cast(pa.float32(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float32()))
