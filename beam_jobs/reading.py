"""Reads raw files as Arrow record batches, a few columns at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from apache_beam.io.filesystems import FileSystems

from beam_jobs.errors import InputError
from schemas.dataset import DatasetDescription, FileFormat

BATCH_ROWS = 65_536
_CSV_BLOCK = 8 << 20


@dataclass(frozen=True)
class RawFile:
    """One raw file.

    Attributes:
        path: where it is.
        size: its size in bytes.
        format: its format.
    """

    path: str
    size: int
    format: FileFormat


def match_files(folder: str, patterns: tuple[str, ...], file_format: FileFormat) -> list[RawFile]:
    """Lists the files under ``folder`` that match any of the patterns, in order of path.

    Raises:
        InputError: there is no such folder, no file matches, or a file is empty.
    """
    globs = [FileSystems.join(folder, pattern) for pattern in patterns]
    found = {
        metadata.path: metadata.size_in_bytes
        for match in FileSystems.match(globs)
        for metadata in match.metadata_list
    }
    if not found:
        raise InputError(f"{folder}: no file matches {', '.join(patterns)}")
    empty = sorted(path for path, size in found.items() if size == 0)
    if empty:
        raise InputError(f"{empty[0]}: the file is empty")
    return [RawFile(path, found[path], file_format) for path in sorted(found)]


def log_columns(description: DatasetDescription) -> list[str]:
    """Returns the columns of the log that a description reads, each once."""
    columns = [description.user.column, description.item.column, description.time.column]
    if description.label.column is not None:
        columns.append(description.label.column)
    columns += description.action_columns
    columns += [item.source for item in description.context if item.derive is None]
    columns += [rule.column for rule in description.drop]
    return list(dict.fromkeys(columns))


def check_columns(file: RawFile, columns: list[str], *, used_by: str) -> None:
    """Checks that a file can be read and has the columns.

    Raises:
        InputError: names the file, the missing columns and those it has.
    """
    try:
        present = _header(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file.path}: not readable as {file.format.value}: {error}") from error
    missing = [column for column in columns if column not in present]
    if missing:
        raise InputError(
            f"{file.path}: columns {missing} of the {used_by} are missing; "
            f"the file has {sorted(present)}"
        )


def read_batches(
    file: RawFile, columns: list[str], bad_lines: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Reads the columns of one file batch by batch.

    Args:
        file: the file.
        columns: columns to read; all values of CSV come as strings.
        bad_lines: receives CSV lines with the wrong number of columns.

    Raises:
        InputError: the file cannot be read as its format.
    """
    try:
        with FileSystems.open(file.path) as stream:
            if file.format is FileFormat.PARQUET:
                reader = pa.parquet.ParquetFile(stream)
                yield from reader.iter_batches(BATCH_ROWS, columns=columns)
            elif file.format is FileFormat.CSV:
                yield from _read_csv(stream, columns, bad_lines)
            else:
                yield from _read_json_lines(stream, columns)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise InputError(f"{file.path}: not readable as {file.format.value}: {error}") from error


def read_table(files: list[RawFile], columns: list[str]) -> pa.Table:
    """Reads the columns of small files as one table."""
    batches = [batch for file in files for batch in read_batches(file, columns)]
    if not batches:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    return pa.Table.from_batches(batches).combine_chunks()


def _read_csv(
    stream: object, columns: list[str], bad_lines: list[str] | None
) -> Iterator[pa.RecordBatch]:
    def handle(row: pa.csv.InvalidRow) -> str:
        if bad_lines is None:
            return "error"
        bad_lines.append(row.text)
        return "skip"

    reader = pa.csv.open_csv(
        stream,
        read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
        parse_options=pa.csv.ParseOptions(invalid_row_handler=handle),
        convert_options=pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=True,
            null_values=["", "null", "NULL", "None", "nan", "NaN"],
        ),
    )
    yield from reader


def _read_json_lines(stream: object, columns: list[str]) -> Iterator[pa.RecordBatch]:
    table = pa.json.read_json(stream, read_options=pa.json.ReadOptions(use_threads=False))
    missing = [column for column in columns if column not in table.column_names]
    for column in missing:
        table = table.append_column(column, pa.nulls(table.num_rows))
    yield from table.select(columns).to_batches(BATCH_ROWS)


def _header(file: RawFile) -> list[str]:
    with FileSystems.open(file.path) as stream:
        if file.format is FileFormat.PARQUET:
            return list(pa.parquet.ParquetFile(stream).schema_arrow.names)
        if file.format is FileFormat.CSV:
            return list(pa.csv.open_csv(stream).schema.names)
        first = stream.readline()
        return list(pa.json.read_json(pa.BufferReader(first)).column_names)
