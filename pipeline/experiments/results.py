"""The results file: one JSON line a finished cell, appended and never rewritten."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.experiments.grid import SECTIONS, Cell
from schemas.loading import ConfigError, build, to_plain

_logger = logging.getLogger(__name__)

# What the figures of a row depend on; scores and metrics are pipeline's.
_SOURCES = ("schemas", "beam_jobs", "models", "components", "pipeline")


class ResultsFile:
    """Rows of finished cells, of any grids.

    A row is found again by the settings that it was trained with, whatever the cell was called
    then. A key that the row does not know counts as having its default, so that a new option
    leaves earlier rows good.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = read_lines(path)
        self._settings = [_with_defaults(row["config"]) for row in self._rows]

    def find(self, cell: Cell) -> dict[str, Any] | None:
        """Returns the last row with the cell's settings, if there is any."""
        for row, settings in zip(reversed(self._rows), reversed(self._settings), strict=True):
            if settings == cell.settings:
                return row
        return None

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; it is on the disk when this returns."""
        append_line(self.path, row)
        self._rows.append(row)
        self._settings.append(_with_defaults(row["config"]))

    def seconds_of(self, model: str) -> list[float]:
        """Returns what the cells took that were called ``model``."""
        return [row["seconds"] for row in self._rows if row["model"] == model]

    def all_seconds(self) -> list[float]:
        """Returns what each cell took."""
        return [row["seconds"] for row in self._rows]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a JSON lines file; a torn line, of a killed writer, is left out."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            _logger.warning("%s, line %d: not JSON, left out", path, number)
            continue
        rows.append(row)
    return rows


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Appends a JSON line in one write and waits until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, allow_nan=False) + "\n"
    with path.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = "\n" + line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def code_version() -> dict[str, Any]:
    """Returns the commit of the source and whether it has been edited since; None if unknown."""
    top = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(top), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--", *_SOURCES)
    return {
        "commit": git("rev-parse", "HEAD"),
        "edited": None if changes is None else bool(changes),
    }


def _with_defaults(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what today's configuration makes of a row's settings; None if it refuses them."""
    try:
        config = build(RunConfig, {"run": {"root": "."}, **settings}, where="row")
    except ConfigError:
        return None
    plain = to_plain(config)
    return {section: plain[section] for section in SECTIONS}
