"""Rows of files as inputs of a signature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from serving.client_support.results import Signature, TensorSpec
from serving.protocol.tensor_codec import STRING, cast
from serving.protocol.tf_examples import read_records, serialize

# A serialized tf.Example, or values by input name.
Row: TypeAlias = bytes | Mapping[str, Any]

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
PARQUET_SUFFIX = ".parquet"


def read_rows(path: Path) -> Iterator[Row]:
    """Reads a file: JSON lines and Parquet as values by name, anything else as TFRecords.

    Raises:
        ValueError: the file is damaged or of another form; names the line or record.
        OSError: it cannot be read.
    """
    if path.suffix in JSON_SUFFIXES:
        return _read_json(path)
    if path.suffix == PARQUET_SUFFIX:
        return _read_parquet(path)
    return _read_tfrecords(path)


def inputs_of(rows: Sequence[Row], signature: Signature) -> dict[str, np.ndarray]:
    """Builds the inputs of one call.

    A signature with one input of text takes examples: rows that are values are serialized.
    For any other, each input is looked up in each row; lists of different lengths are filled up
    at their end, and what is missing (null) is -1, "" or NaN, as the export's signatures expect;
    a list that is missing is empty.

    Args:
        rows: rows of one call.
        signature: what to call.

    Raises:
        ValueError: a row lacks an input or has another type; names the input.
    """
    examples = example_input(signature)
    if examples is not None and not _given_by_name(rows[0], examples):
        return {examples: cast(examples, examples_of(rows), STRING)}
    values = [row for row in rows if not isinstance(row, bytes)]
    if len(values) < len(rows):
        raise ValueError(
            "rows: examples are accepted by a signature with one input of text; this one has "
            f"{', '.join(sorted(signature.inputs))}"
        )
    _check_names(values, signature)
    return {
        name: _column(name, [row[name] for row in values], spec)
        for name, spec in signature.inputs.items()
    }


def examples_of(rows: Sequence[Row]) -> list[bytes]:
    """Returns rows as serialized ``tf.Example``s."""
    return [row if isinstance(row, bytes) else serialize(row) for row in rows]


def example_input(signature: Signature) -> str | None:
    """Returns the name of the input that takes serialized examples, if there is one."""
    if len(signature.inputs) != 1:
        return None
    ((name, spec),) = signature.inputs.items()
    return name if spec.dtype == STRING and spec.shape in (None, (-1,)) else None


def _given_by_name(row: Row, name: str) -> bool:
    return not isinstance(row, bytes) and name in row


def _check_names(rows: Sequence[Mapping[str, Any]], signature: Signature) -> None:
    for row in rows:
        absent = sorted(name for name in signature.inputs if name not in row)
        if absent:
            named = ", ".join(map(repr, absent))
            raise ValueError(
                f"input{'s' if len(absent) > 1 else ''} {named}: missing in a row, which has "
                f"{', '.join(sorted(row))}"
            )


def _column(name: str, values: list[Any], spec: TensorSpec) -> np.ndarray:
    missing: Any = "" if spec.dtype == STRING else -1
    if spec.dtype in ("DT_FLOAT", "DT_DOUBLE", "DT_HALF"):
        missing = float("nan")
    if spec.shape is not None and len(spec.shape) == 2:
        values = [_or(value, []) for value in values]
        if not all(isinstance(value, list | tuple | np.ndarray) for value in values):
            raise ValueError(f"input {name!r}: a list is expected in each row")
        # TensorFlow Serving cannot pad what has no column, and refuses all that it merged with it.
        longest = max(1, *(len(value) for value in values))
        filler = "" if spec.dtype == STRING else 0
        values = [
            [_or(one, missing) for one in value] + [filler] * (longest - len(value))
            for value in values
        ]
    else:
        values = [_or(value, missing) for value in values]
    array = cast(f"input {name}", values, spec.dtype)
    if spec.shape is not None and array.ndim != len(spec.shape):
        raise ValueError(f"input {name!r}: rank {len(spec.shape)} is expected, found {array.ndim}")
    return array


def _or(value: Any, missing: Any) -> Any:
    return missing if value is None else value


def _read_json(path: Path) -> Iterator[Row]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise ValueError(f"{path}: line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}: line {number}: an object of inputs is expected")
            yield row


def _read_tfrecords(path: Path) -> Iterator[Row]:
    is_first = True
    try:
        for record in read_records(path):
            is_first = False
            yield record
    except ValueError as error:
        if not is_first:
            raise
        forms = ", ".join((*JSON_SUFFIXES, PARQUET_SUFFIX))
        raise ValueError(f"{error}; TFRecord files and {forms} are accepted") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        for batch in file.iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet file: {error}") from None
    except OSError as error:
        # pyarrow says of a damaged column neither an error number nor the file.
        if error.errno is not None:
            raise
        raise ValueError(f"{path}: damaged: {error}") from None
