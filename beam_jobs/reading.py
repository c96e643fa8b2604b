"""Reads raw files as Arrow record batches, a few columns at a time."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_jobs.errors import InputError
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import FileFormat

BATCH_ROWS = 65_536
_BLOCK = 8 << 20
# ASCII's own sign for a character that is none; one byte for each that it stands for.
_SUBSTITUTE = "\x1a"
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


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
        hint = ""
        if re.search(r"[*?[]", folder):
            hint = "; *, ? and [ in the path stand for others"
        elif "://" not in folder and not os.path.isdir(folder):
            hint = f"; {os.path.abspath(folder)} is no folder"
        raise InputError(f"{folder}: no file matches {', '.join(patterns)}{hint}")
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
        columns: columns to read; those of CSV come as text, or as bytes with ``bad_lines``.
        bad_lines: receives lines of CSV with the wrong number of columns and lines that are
            no JSON. Where it is not given, they are an error, and so are bytes that are no UTF-8
            and values of different kinds in one column of JSON.

    Raises:
        InputError: the file cannot be read as its format.
    """
    try:
        with _opened(file) as stream:
            if file.format is FileFormat.PARQUET:
                reader = pa.parquet.ParquetFile(stream)
                yield from reader.iter_batches(BATCH_ROWS, columns=columns)
            elif file.format is FileFormat.CSV:
                yield from _read_csv(stream, columns, bad_lines)
            else:
                yield from _read_json_lines(stream, columns, bad_lines)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        # Arrow tells of corrupt pages in an OSError.
        raise InputError(f"{file.path}: not readable as {file.format.value}: {error}") from error


def read_table(files: list[RawFile], columns: list[str]) -> pa.Table:
    """Reads the columns of small files as one table.

    Raises:
        InputError: a file cannot be read, or a column is of another kind in another file.
    """
    batches = [batch for file in files for batch in read_batches(file, columns)]
    if not batches:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowTypeError as error:
        names = ", ".join(file.path for file in files)
        raise InputError(f"{names}: columns of different types: {error}") from error


@contextmanager
def _opened(file: RawFile) -> Iterator[Any]:
    """Opens a file, unpacked where it is text and its name says that it is packed.

    Beam's own unpacking takes a file that has lost its end for a whole one.
    """
    codec = _CODECS.get(os.path.splitext(file.path)[1])
    with FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        if codec is None or file.format is FileFormat.PARQUET:
            yield stream
        else:
            yield pa.CompressedInputStream(stream, codec)


def _read_csv(
    stream: BinaryIO, columns: list[str], bad_lines: list[str] | None
) -> Iterator[pa.RecordBatch]:
    def handle(row: pa.csv.InvalidRow) -> str:
        if bad_lines is None:
            return "error"
        bad_lines.append(row.text.replace(_SUBSTITUTE, "\ufffd") if text.spoilt else row.text)
        return "skip"

    # Bytes that are no UTF-8 spoil one value or line, not the file.
    text = _Utf8(stream)
    kind = pa.string() if bad_lines is None else pa.binary()
    reader = pa.csv.open_csv(
        stream if bad_lines is None else text,
        read_options=pa.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        # Without the second, a quoted value is torn where a block happens to end in it.
        parse_options=pa.csv.ParseOptions(invalid_row_handler=handle, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, kind),
            strings_can_be_null=True,
            null_values=["", "null", "NULL", "None", "nan", "NaN"],
        ),
    )
    for batch in reader:
        yield _with_spoilt_bytes(batch) if text.spoilt else batch


class _Utf8(io.RawIOBase):
    """A stream of text in which a substitute stands for each byte that is no UTF-8.

    Arrow gives up a file over such a byte in a line with the wrong number of columns.

    Attributes:
        spoilt: whether there was one so far.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.spoilt = False
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def read(self, size: int = -1) -> bytes:
        """Reads at most ``size`` bytes."""
        while True:
            # The decoder may have kept three bytes, of a character that was cut.
            data = self._stream.read(max(size - 3, 1) if size > 0 else size)
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                break
        try:
            return text.encode()
        except UnicodeEncodeError:
            self.spoilt = True
            return re.sub("[\ud800-\udfff]", _SUBSTITUTE, text).encode()

    def readable(self) -> bool:
        """It can be read."""
        return True


def _with_spoilt_bytes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Makes of substitutes what they stand for, so that no value with one is taken for text."""
    columns = [pc.replace_substring(c, _SUBSTITUTE.encode(), b"\xff") for c in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def _read_json_lines(
    stream: BinaryIO, columns: list[str], bad_lines: list[str] | None
) -> Iterator[pa.RecordBatch]:
    for block in _line_blocks(stream):
        try:
            table = _parse_json(block)
            if any(_is_rounded(table.column(c)) for c in columns if c in table.column_names):
                table = _table_of(_split_json(block)[0], columns)
        except pa.ArrowInvalid:
            if bad_lines is None:
                raise
            rows, bad = _split_json(block)
            bad_lines += bad
            table = _table_of(rows, columns)
        for column in columns:
            # A key that no line of the block has.
            if column not in table.column_names:
                table = table.append_column(column, pa.nulls(table.num_rows))
        yield from table.select(columns).to_batches(BATCH_ROWS)


def _line_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Cuts a stream into blocks of whole lines."""
    rest = b""
    while data := stream.read(_BLOCK):
        lines, newline, tail = (rest + data).rpartition(b"\n")
        rest = tail
        if lines.strip():
            yield lines + newline
    if rest.strip():
        yield rest


def _parse_json(block: bytes) -> pa.Table:
    try:
        # Arrow takes any bytes for text.
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"bytes that are no UTF-8 ({error.reason})") from error
    read = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    table = pa.json.read_json(pa.BufferReader(block), read_options=read)
    # JSON has no times: a text that looks like one stays the text it is, as in CSV.
    texts = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
    if texts:
        schema = pa.schema([(name, pa.string()) for name in texts])
        parse = pa.json.ParseOptions(explicit_schema=schema)
        table = pa.json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    return table


def _is_rounded(column: pa.ChunkedArray) -> bool:
    """Whether numbers may have lost digits to one that is no whole number, or none of 64 bits."""
    if not pa.types.is_floating(column.type):
        return False
    largest = pc.max(pc.abs(column)).as_py()
    return largest is not None and largest >= 2**53


def _split_json(block: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Parses lines one by one and separates those that are no JSON object."""
    rows, bad = [], []
    for line in block.splitlines():
        if not line.strip():
            continue
        try:
            # The first line of a file may begin with a mark of its encoding.
            row = json.loads(line.decode("utf-8-sig"))
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            bad.append(line.decode("utf-8", "replace"))
    return rows, bad


def _table_of(rows: list[dict[str, Any]], columns: list[str]) -> pa.Table:
    return pa.table({column: _column_of([row.get(column) for row in rows]) for column in columns})


def _column_of(values: list[Any]) -> pa.Array:
    """Returns values of one kind as they are, and others as text: none changes the next one."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds <= {bool, int, float}:
        try:
            return pa.array(values)
        except OverflowError:
            pass
    texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    # Half of a pair of surrogates is no character: bytes that are no UTF-8.
    return pa.array(
        [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts],
        pa.binary(),
    )


def _header(file: RawFile) -> list[str]:
    with _opened(file) as stream:
        if file.format is FileFormat.PARQUET:
            return list(pa.parquet.ParquetFile(stream).schema_arrow.names)
        if file.format is FileFormat.CSV:
            skip = pa.csv.ParseOptions(
                invalid_row_handler=lambda _: "skip", newlines_in_values=True
            )
            names = list(pa.csv.open_csv(_Utf8(stream), parse_options=skip).schema.names)
            if any(_SUBSTITUTE in name or "\0" in name for name in names):
                raise pa.ArrowInvalid("the header line is no UTF-8 text")
            return names
        # One line need not have every key.
        rows, bad = _split_json(next(_line_blocks(stream), b""))
        if bad and not rows:
            raise pa.ArrowInvalid(f"no line is a JSON object; the first is {bad[0][:80]!r}")
        return list(dict.fromkeys(key for row in rows for key in row))
