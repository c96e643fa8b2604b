"""Example sets: examples, profile and Transform of cells that differ in the model only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.curated import schema_source
from pipeline.experiments.grid import Cell, digest
from schemas.loading import to_plain
from schemas.writing import write_text

FOLDER = "examples"
MANIFEST = "example_set.json"
SCORED_ROWS = "test_rows.npz"

_SOURCES = (
    "schemas",
    "beam_jobs",
    "components/example_gen",
    "components/schema_gate",
    "components/sequence_profile",
    "components/columns.py",
    "pipeline/experiments/row_facts.py",
    "pipeline/experiments/scored_rows.py",
)


@dataclass(frozen=True, kw_only=True)
class ExampleSet:
    """A built example set.

    Attributes:
        key: of the cells that it is for, see :attr:`pipeline.experiments.grid.Cell.example_key`.
        stamp: identifies what it was built from, see :func:`stamp_of`.
        train_files: pattern of the transformed examples to train on.
        validation_files: pattern of those to choose the epoch on.
        test_rows: file of the transformed test split, see
            :class:`pipeline.experiments.scored_rows.ScoredRows`.
        transform_graph: folder of the Transform graph.
        profile: file of the SequenceProfile.
        seconds: what the last building took.
    """

    key: str
    stamp: str
    train_files: str
    validation_files: str
    test_rows: str
    transform_graph: str
    profile: str
    seconds: float

    def write(self, folder: Path) -> None:
        """Writes the manifest, which is the last file of a set."""
        write_json(folder / MANIFEST, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: Path) -> ExampleSet | None:
        """Reads the manifest; None where there is none that can be used."""
        try:
            return cls(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def set_folder(root: Path, key: str) -> Path:
    """Returns the folder of an example set, which is also the root of its pipeline."""
    return root / FOLDER / key


def stamp_of(cell: Cell) -> str:
    """Identifies what a cell's example set is built from beside its settings.

    That is the sources, the dataset description, the raw files, the schema and the snapshot.
    """
    # It comes with Beam, which a report does without.
    from pipeline.prepare import TRANSFORM_SOURCES, source_hash

    data = cell.config.data
    folders = [data.path, *([data.snapshot] if data.snapshot != "none" else [])]
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*"))]
    files.append(schema_source(cell.config, cell.description))
    # The content decides in the pipeline's cache; size and time decide whether to ask it.
    found = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if path.is_file()
    ]
    sources = source_hash(*_SOURCES, *TRANSFORM_SOURCES)
    return digest([found, sources, to_plain(cell.description)])


def check_inputs(cells: Iterable[Cell]) -> None:
    """Checks that what each example set is built from is there and fits.

    Raises:
        InputError: a file or column, the schema or the snapshot is missing, or cannot be used.
    """
    from beam_jobs.plan import make_plan, with_snapshot

    for cell in {cell.example_key: cell for cell in cells}.values():
        schema_source(cell.config, cell.description)
        data = cell.config.data
        if data.generate is None:
            plan = make_plan(data, cell.description)
            if data.snapshot != "none":
                with_snapshot(plan, data.snapshot)


def find_set(root: Path, cell: Cell) -> ExampleSet | None:
    """Returns the cell's example set if it is built and up to date."""
    found = ExampleSet.read(set_folder(root, cell.example_key))
    if found is None or found.stamp != stamp_of(cell) or not Path(found.test_rows).exists():
        return None
    return found


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON, as a whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")
