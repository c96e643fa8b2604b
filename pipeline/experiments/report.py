"""Tables of a grid's results, in Markdown and CSV."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import metrics
from pipeline.experiments.comparison import (
    SHORT,
    Comparer,
    Difference,
    Predictions,
    SliceComparison,
    short_metrics,
)
from pipeline.experiments.diagnostic_tables import diagnostic_tables
from pipeline.experiments.example_sets import SCORED_ROWS, set_folder
from pipeline.experiments.grid import Grid
from pipeline.experiments.results import ResultsFile
from pipeline.experiments.run import DIAGNOSTICS_FILE, Places, duration
from pipeline.experiments.slices import DIMENSIONS, ONE_HISTORY, OVERALL
from pipeline.experiments.tables import (
    difference_text,
    interval_text,
    markdown,
    mean_text,
    write_csv,
)
from schemas import features
from schemas.writing import write_text

REPORT = "report.md"
NOT_RUN = "not run"
_TITLES = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log loss"}
_SHORT_NAMES = {
    features.LENGTH_BUCKET: "length",
    features.DENSITY_BUCKET: "density",
    SHORT: "length",
}

Rows = Mapping[str, Mapping[int, dict[str, Any]]]


def write_report(grid: Grid, places: Places) -> Path:
    """Writes ``report.md`` and the CSV files beside it, from the results file alone.

    Args:
        grid: whose cells are shown.
        places: where results and predictions are.

    Returns:
        Path of the report.
    """
    results = ResultsFile(places.results)
    rows: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in grid.models}
    for (name, seed), cell in grid.cells.items():
        if (row := results.find(cell)) is not None:
            rows[name][seed] = row
    predictions, notes = _predictions(places, rows)
    comparisons, refused = _compare(grid, rows, predictions)
    notes += refused
    folder = places.results.parent / grid.name
    folder.mkdir(parents=True, exist_ok=True)
    short = {
        name: short_metrics(found, grid.file.short_history) for name, found in predictions.items()
    }
    parts = [f"# {grid.name}\n", _overall_table(grid, rows, short)]
    for dimension in DIMENSIONS:
        parts += [_bucket_table(grid, rows, dimension, metric) for metric in _TITLES]
    parts.append(_difference_table(comparisons, notes))
    parts.append(
        diagnostic_tables(
            {
                key: places.diagnostics(grid, cell) / DIAGNOSTICS_FILE
                for key, cell in grid.cells.items()
            }
        )
    )
    write_text(folder / REPORT, "\n".join(part for part in parts if part))
    write_csv(folder / "cells.csv", _cell_lines(rows))
    write_csv(folder / "slices.csv", _slice_lines(rows))
    write_csv(folder / "differences.csv", _difference_lines(comparisons))
    return folder / REPORT


def _predictions(places: Places, rows: Rows) -> tuple[dict[str, Predictions], list[str]]:
    """Reads the predictions of each model; notes say which cannot be read, and why."""
    predictions: dict[str, Predictions] = {}
    notes: list[str] = []
    for name, found in rows.items():
        if not found:
            continue
        key = next(iter(found.values()))["example_set"]
        files = {seed: places.results.parent / row["predictions"] for seed, row in found.items()}
        try:
            test_rows = set_folder(places.root, key) / SCORED_ROWS
            read = Predictions.read(files, test_rows)
            _check_trainings(read, found, files)
        except (OSError, ValueError) as error:
            notes.append(f"{name}: {error}")
        else:
            predictions[name] = read
    return predictions, notes


def _check_trainings(
    predictions: Predictions, rows: Mapping[int, dict[str, Any]], files: Mapping[int, Path]
) -> None:
    """Checks that the predictions are of the trainings that the rows tell of.

    Raises:
        ValueError: they are of other ones, with the same settings.
    """
    for seed, logits in predictions.logits.items():
        facts, told = predictions.facts, rows[seed]["test"][OVERALL]["auc"]
        found = metrics.auc(facts.label, logits)
        if told is not None and not math.isclose(found, told, abs_tol=1e-9):
            raise ValueError(
                f"{files[seed]}: predictions of AUC {found:.6f}, where the row of seed {seed} says "
                f"{told:.6f}; another training of these settings has overwritten them: keep each "
                "results file in a folder of its own"
            )


def _compare(
    grid: Grid, rows: Rows, predictions: Mapping[str, Predictions]
) -> tuple[list[SliceComparison], list[str]]:
    """Compares each model with its bases; notes say which comparisons are not made, and why."""
    data = next(iter(grid.cells.values())).config.data
    edges = {
        features.LENGTH_BUCKET: data.length_edges,
        features.DENSITY_BUCKET: data.density_edges,
    }
    comparer = Comparer(edges, grid.file.short_history)
    comparisons: list[SliceComparison] = []
    notes: list[str] = []
    for model in grid.models:
        for base in grid.bases(model):
            if not set(rows[model]) & set(rows[base]):
                notes.append(f"{model} less {base}: {NOT_RUN}")
            elif model in predictions and base in predictions:
                try:
                    comparisons += comparer.compare(model, base, predictions)
                except ValueError as error:
                    notes.append(str(error))
    return comparisons, notes


def _overall_table(grid: Grid, rows: Rows, short: Rows) -> str:
    heads = ["model", "seeds", *_TITLES.values(), "calibration", "GAUC, one history"]
    heads.append(f"AUC under {grid.file.short_history} events")
    heads += [f"validation {title}" for title in _TITLES.values()]
    heads += ["epochs", "table weights", "other weights", "examples/s", "a cell", "memory MB"]
    lines = []
    for name in grid.models:
        found = list(rows[name].values())
        if not found:
            lines.append([name, "0", NOT_RUN, *[""] * (len(heads) - 3)])
            continue
        line = [name, ", ".join(str(seed) for seed in sorted(rows[name]))]
        line += [mean_text([row["test"][OVERALL][m] for row in found]) for m in _TITLES]
        line.append(mean_text([row["test"][OVERALL]["calibration"] for row in found], digits=3))
        # Rows of earlier versions have none.
        line.append(mean_text([row["test"].get(ONE_HISTORY, {}).get("gauc") for row in found]))
        line.append(mean_text([values["auc"] for values in short.get(name, {}).values()]))
        line += [mean_text([row["validation"][m] for row in found]) for m in _TITLES]
        line.append(", ".join(str(row["epochs"]) for row in found))
        line += [f"{found[0]['parameters'][part]:,}" for part in ("tables", "dense")]
        line.append(f"{statistics.mean(row['examples_per_second'] for row in found):,.0f}")
        line.append(duration(statistics.mean(row["seconds"] for row in found)))
        line.append(f"{max(row['peak_memory_mb'] for row in found):,.0f}")
        lines.append(line)
    missing = [cell.title for (name, seed), cell in grid.cells.items() if seed not in rows[name]]
    note = f"\nCells not run: {', '.join(missing)}.\n" if missing else ""
    return (
        "Test split, mean ± sample standard deviation over seeds. *GAUC, one history* scores all "
        "rows of a user with the history before the first of them. *AUC under "
        f"{grid.file.short_history} events* is over the rows that are so short by the model's own "
        "history protocol: other protocols, other rows.\n\n" + markdown(heads, lines) + note
    )


def _bucket_table(grid: Grid, rows: Rows, dimension: str, metric: str) -> str:
    first = next((row for found in rows.values() for row in found.values()), None)
    if first is None:
        return ""
    buckets = list(first["test"][dimension])
    title = dimension.replace("_", " ")
    lines: list[list[str]] = []
    counted: list[list[int]] = []
    for name in grid.models:
        found = list(rows[name].values())
        if not found:
            lines.append([name, NOT_RUN, *[""] * (len(buckets) - 1)])
            continue
        slices = [row["test"][dimension] for row in found]
        # Another history protocol has other lengths, and so other rows in a bucket.
        counts = [slices[0][bucket]["examples"] for bucket in buckets]
        if counts not in counted:
            counted.append(counts)
            lines.append([f"*impressions, {name} on*", *(f"*{count:,}*" for count in counts)])
        cells = [mean_text([values[bucket][metric] for values in slices]) for bucket in buckets]
        lines.append([name, *cells])
    return f"\n## {_TITLES[metric]} by {title}\n\n" + markdown([title, *buckets], lines)


def _difference_table(comparisons: Sequence[SliceComparison], notes: Sequence[str]) -> str:
    if not comparisons and not notes:
        return ""
    heads = ["model", "less", "slice", "impressions", "seeds"]
    for title in _TITLES.values():
        heads += [title, "over seeds", "over users"]
    heads += ["AUC by seed", ""]
    lines = []
    for one in comparisons:
        name = (
            OVERALL if one.dimension == OVERALL else f"{_SHORT_NAMES[one.dimension]} {one.bucket}"
        )
        line = [one.model, one.base, name, f"{one.examples:,}"]
        line.append(str(len(one.seeds)))
        for metric in _TITLES:
            found = one.differences[metric]
            line += [difference_text(found.mean), *map(interval_text, _intervals(found))]
        line.append(" ".join(map(difference_text, one.differences["auc"].by_seed)))
        lines.append([*line, "**AUC below**" if one.is_below else ""])
    text = (
        "\n## Paired differences\n\n"
        "Mean over seeds of the model less its base, slices of at least 1,000 impressions, with "
        "95 % intervals: by Student's t over the differences of the seeds, and over 1,000 "
        "resamplings of the test users. AUC and GAUC are better above 0, log loss below. "
        "*AUC below* marks an interval over users that is below 0 as a whole.\n\n"
    )
    text += markdown(heads, lines) if lines else ""
    return text + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def _intervals(found: Difference) -> tuple[Any, Any]:
    return found.seed_interval, found.user_interval


def _cell_lines(rows: Rows) -> list[dict[str, Any]]:
    lines = []
    for name, found in rows.items():
        for seed, row in sorted(found.items()):
            line = {"model": name, "seed": seed}
            line |= {f"test_{key}": value for key, value in row["test"][OVERALL].items()}
            at_first = row["test"].get(ONE_HISTORY, {})
            line |= {f"{ONE_HISTORY}_{key}": at_first.get(key) for key in ("auc", "gauc")}
            line |= {f"validation_{key}": value for key, value in row["validation"].items()}
            line |= {f"parameters_{key}": value for key, value in row["parameters"].items()}
            for key in ("epochs", "seconds", "examples_per_second", "peak_memory_mb", "when"):
                line[key] = row[key]
            lines.append({**line, "commit": row["code"]["commit"], "hash": row["config_hash"]})
    return lines


def _slice_lines(rows: Rows) -> list[dict[str, Any]]:
    return [
        {"model": name, "seed": seed, "dimension": dimension, "bucket": bucket, **values}
        for name, found in rows.items()
        for seed, row in sorted(found.items())
        for dimension in DIMENSIONS
        for bucket, values in row["test"][dimension].items()
    ]


def _difference_lines(comparisons: Sequence[SliceComparison]) -> list[dict[str, Any]]:
    lines = []
    for one in comparisons:
        for metric, found in one.differences.items():
            seeds, users = (interval or (None, None) for interval in _intervals(found))
            lines.append(
                {
                    "model": one.model,
                    "base": one.base,
                    "dimension": one.dimension,
                    "bucket": one.bucket,
                    "examples": one.examples,
                    "metric": metric,
                    "seeds": " ".join(map(str, one.seeds)),
                    "by_seed": " ".join(f"{value:.6f}" for value in found.by_seed),
                    "mean": found.mean if math.isfinite(found.mean) else None,
                    "seeds_low": seeds[0],
                    "seeds_high": seeds[1],
                    "users_low": users[0],
                    "users_high": users[1],
                    "auc_below": one.is_below,
                }
            )
    return lines
