"""One task of an experiment in a process of its own.

It builds an example set, trains a cell, or diagnoses the attention of a trained one.

    python -m pipeline.experiments.worker TASK OUTCOME

TASK and OUTCOME are JSON files. A process of its own gives the memory back, lets a crash stop
one cell only, and makes the peak memory that of the cell.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.progress_lines import log_to_stderr
from pipeline.config import RunConfig
from pipeline.environment import prepare_environment
from pipeline.experiments.example_sets import ExampleSet, write_json
from pipeline.experiments.grid import make_cell
from schemas.imports import without_collection
from schemas.loading import build

BUILD = "build"
TRAIN = "train"
DIAGNOSE = "diagnose"

_SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is to do.

    Attributes:
        kind: ``build``, ``train`` or ``diagnose``.
        model: name of the cell's model.
        config: resolved configuration of the run.
        root: folder of the experiments.
        examples: the example set, unless it is to be built.
        predictions: file for the test predictions, to train.
        weights: prefix of the checkpoint, to train or diagnose.
        folder: for what is needed on the way, to train; for the result, to diagnose.
        parent: id of the process that waits for the outcome; without it the worker ends.
    """

    kind: str
    model: str
    config: dict[str, Any]
    root: str
    examples: dict[str, Any] | None = None
    predictions: str = ""
    weights: str = ""
    folder: str = ""
    parent: int = field(default_factory=os.getpid)


def main(task_file: str, outcome_file: str) -> int:
    """Does the task; the outcome holds ``result`` or ``error``."""
    log_to_stderr()
    logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)
    prepare_environment()
    task = build(Task, json.loads(Path(task_file).read_text(encoding="utf-8")), where=task_file)
    _end_with(task.parent)
    try:
        outcome = {"result": _do(task)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"error": f"{type(error).__name__}: {error}"}
    write_json(Path(outcome_file), outcome)
    return 0 if "result" in outcome else 1


def _do(task: Task) -> Any:
    config = build(RunConfig, task.config, where="task")
    cell = make_cell(task.model, config)
    if task.kind == BUILD:
        with without_collection():
            from pipeline.experiments.build import build_set

        return build_set(Path(task.root), cell).key
    if task.examples is None:
        raise ValueError(f"examples: an example set is needed to {task.kind}, found none")
    with without_collection():
        from pipeline.experiments.training import diagnose_cell, train_cell

    examples, weights = ExampleSet(**task.examples), Path(task.weights)
    if task.kind == DIAGNOSE:
        diagnose_cell(cell, examples, weights=weights, folder=Path(task.folder))
        return None
    return train_cell(
        cell,
        examples,
        predictions=Path(task.predictions),
        weights=weights,
        scratch=Path(task.folder),
    )


def _end_with(parent: int) -> None:
    """Ends this process when its parent is killed; now, if that was while it started."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
