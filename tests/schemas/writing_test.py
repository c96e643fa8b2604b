from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.writing import undefined_as_none, write_text


def test_a_text_replaces_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    for text in ("first\n", "größer\n"):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert os.listdir(path.parent) == ["file.json"]


def test_a_text_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_text(path, "good")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "better")
    assert path.read_text() == "good"
    assert os.listdir(tmp_path) == ["file.json"]


def test_numbers_that_json_has_no_word_for_are_none() -> None:
    values = {"auc": 0.5, "gauc": float("nan"), "epochs": [{"loss": float("inf")}, (1, "x", None)]}
    expected = {"auc": 0.5, "gauc": None, "epochs": [{"loss": None}, [1, "x", None]]}
    assert undefined_as_none(values) == expected


def test_a_full_disk_is_told_with_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/file.json'"):
        write_text(tmp_path / "file.json", "text")
    assert not list(tmp_path.iterdir())
