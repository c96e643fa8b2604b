"""Text files as they are found: packed, cut off, with lines in their values."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs import reading
from beam_jobs.errors import InputError
from beam_jobs.reading import RawFile, check_columns, read_batches
from schemas.dataset_sections import FileFormat

LINES = {
    FileFormat.CSV: b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(5000)),
    FileFormat.JSONL: b"".join(b'{"a": %d, "b": "x"}\n' % n for n in range(5000)),
}
PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": pa.Codec("zstd").compress}


def read(path: Path, kind: FileFormat, bad_lines: list[str] | None = None) -> list[dict[str, str]]:
    file = RawFile(str(path), path.stat().st_size, kind)
    check_columns(file, ["a"], used_by="log")
    batches = read_batches(file, ["a", "b"], bad_lines)
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("kind", sorted(LINES))
@pytest.mark.parametrize("ending", sorted(PACK))
def test_packed_files_are_read_as_others(tmp_path: Path, kind: FileFormat, ending: str) -> None:
    (tmp_path / "plain").write_bytes(LINES[kind])
    (tmp_path / f"log{ending}").write_bytes(bytes(PACK[ending](LINES[kind])))
    assert read(tmp_path / f"log{ending}", kind) == read(tmp_path / "plain", kind)


@pytest.mark.parametrize("kind", sorted(LINES))
@pytest.mark.parametrize("lost", [4, 3000])
def test_a_packed_file_that_lost_its_end_is_refused(
    tmp_path: Path, kind: FileFormat, lost: int
) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(LINES[kind])[:-lost])
    with pytest.raises(InputError, match=f"log.gz: not readable as {kind.value}: Truncated"):
        read(tmp_path / "log.gz", kind)


def test_a_quoted_value_of_several_lines_is_whole_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", 100)
    rows = [{"a": str(n), "b": f"line {n}\nand another"} for n in range(50)]
    text = "".join(f'{row["a"]},"{row["b"]}"\n' for row in rows)
    (tmp_path / "log.csv").write_text(f"a,b\n{text}")
    bad_lines: list[str] = []
    found = read(tmp_path / "log.csv", FileFormat.CSV, bad_lines)
    assert [{k: bytes(v).decode() for k, v in row.items()} for row in found] == rows  # type: ignore[arg-type]
    assert bad_lines == []


def test_a_mark_of_the_encoding_spoils_no_line_of_json(tmp_path: Path) -> None:
    lines = b'\xef\xbb\xbf{"a": 1, "b": "x"}\n'
    for rest, bad in ((b"", 0), (b'{"a": 2, "b"\n', 1)):
        (tmp_path / "log").write_bytes(lines + rest)
        bad_lines: list[str] = []
        (row,) = read(tmp_path / "log", FileFormat.JSONL, bad_lines)
        assert (row["a"], len(bad_lines)) == (1, bad)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (FileFormat.CSV, b"PAR1\x15\x04\x15\xe0\n\xff,\x00\n", "the header line is no UTF-8 text"),
        (FileFormat.CSV, "a,b\n1,2\n".encode("utf-16"), "the header line is no UTF-8 text"),
        (FileFormat.JSONL, b"a,b\n1,2\n", "no line is a JSON object; the first is 'a,b'"),
        (FileFormat.JSONL, b'[\n{\n"a": 1}]\n', r"no line is a JSON object; the first is '\['"),
    ],
)
def test_a_file_of_another_format_is_refused_by_its_first_lines(
    tmp_path: Path, kind: FileFormat, content: bytes, message: str
) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(InputError, match=f"log: not readable as {kind.value}: {message}"):
        read(tmp_path / "log", kind)


@pytest.mark.parametrize("block", [20, 21, 22, 1 << 20])
def test_bytes_that_are_no_utf8_spoil_their_value_or_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    (tmp_path / "log").write_bytes("a,b\né€,\x1a\n".encode() + b"1,\xe9\n2,\xe9,3\n4,5\n")
    bad_lines: list[str] = []
    found = [tuple(row.values()) for row in read(tmp_path / "log", FileFormat.CSV, bad_lines)]
    assert [row[0] for row in found] == ["é€".encode(), b"1", b"4"]
    assert found[1][1] == b"\xff"
    assert bad_lines == ["2,\ufffd,3"]
