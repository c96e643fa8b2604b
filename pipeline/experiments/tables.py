"""Writes tables, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.writing import write_text


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    table = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in table)


def mean_text(values: Sequence[float | None], *, digits: int = 4) -> str:
    """Returns mean and sample standard deviation; - where a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


def difference_text(value: float) -> str:
    """Returns a number with its sign; - where it is not defined."""
    return f"{value:+.4f}" if math.isfinite(value) else "-"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Returns both ends with their signs."""
    return "-" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes lines that have the same keys, as a whole or not at all."""
    text = io.StringIO(newline="")
    if lines:
        writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    write_text(path, text.getvalue())
