"""Trains one cell and scores the test split."""

from __future__ import annotations

import dataclasses
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from models.checkpoints import read_checkpoint, write_checkpoint
from models.diagnostics import Diagnostics
from models.inputs import list_files, make_dataset, transformed_spec
from models.plan import read_run_config
from models.ranker import Ranker
from models.trainer import FitResult, fit, make_factory
from models.training import RankerFactory
from pipeline.experiments.diagnostic_plots import plot_diagnostics
from pipeline.experiments.example_sets import ExampleSet, write_json
from pipeline.experiments.grid import Cell
from pipeline.experiments.row_facts import Array, write_arrays
from pipeline.experiments.scored_rows import ScoredRows
from pipeline.experiments.slices import ONE_HISTORY, row_metrics, sliced_metrics
from schemas import features
from schemas.profile import SequenceProfile

# Enough for means by bucket; the weights are computed eagerly, which is slow.
DIAGNOSED_ROWS = 4096
_DIAGNOSED_BATCH = 256


def train_cell(
    cell: Cell, examples: ExampleSet, *, predictions: Path, weights: Path, scratch: Path
) -> dict[str, Any]:
    """Trains a cell, keeps its test predictions and weights, and returns its figures.

    Args:
        cell: what to train.
        examples: its example set.
        predictions: npz file to write: the key, label and logit of each test row.
        weights: prefix of the checkpoint to write.
        scratch: folder for what is needed on the way.

    Returns:
        What a row of the results file says of the training, as plain values.
    """
    started = time.monotonic()
    if cell.config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    factory = cell_factory(cell, examples)
    train_files = list_files([examples.train_files], split=features.TRAIN_SPLIT)
    validation_files = list_files([examples.validation_files], split=features.VALIDATION_SPLIT)
    result = fit(factory, train_files, validation_files, run_dir=str(scratch))
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(result.ranker, str(weights))
    rows = ScoredRows.read(examples.test_rows)
    one_by_one = dataclasses.replace(factory.plan, packed=False)  # as the scored rows are
    spec = make_dataset(validation_files, one_by_one, batch_size=1).element_spec
    scoring = time.monotonic()
    logits = score(result.ranker, rows, spec, factory.train.batch_size)
    scoring_seconds = time.monotonic() - scoring
    facts = rows.facts
    write_arrays(predictions, {"key": facts.key, "label": facts.label, "logit": logits})
    data = cell.config.data
    test = sliced_metrics(
        facts.label,
        logits,
        facts.user,
        {
            features.LENGTH_BUCKET: facts.length_bucket,
            features.DENSITY_BUCKET: facts.density_bucket,
        },
        {
            features.LENGTH_BUCKET: data.length_edges,
            features.DENSITY_BUCKET: data.density_edges,
        },
    )
    at_first = score(
        result.ranker, rows.at_first_impression(factory.plan), spec, factory.train.batch_size
    )
    test[ONE_HISTORY] = row_metrics(facts.label, at_first, facts.user)
    return {
        **_training_figures(result),
        "test": test,
        "test_examples_per_second": len(logits) / max(scoring_seconds, 1e-9),
        "worker_seconds": time.monotonic() - started,
        "peak_memory_mb": _peak_memory_mb(),
    }


def diagnose_cell(cell: Cell, examples: ExampleSet, *, weights: Path, folder: Path) -> None:
    """Writes the attention diagnostics of a trained cell, as JSON and as plots.

    Args:
        cell: what was trained.
        examples: its example set.
        weights: prefix of the checkpoint.
        folder: to write to.
    """
    factory = cell_factory(cell, examples)
    ranker = factory.make()
    read_checkpoint(ranker, str(weights))
    # In one group, so that each attention module gives one array of weights a batch.
    ranker.length_groups = 1
    rows = ScoredRows.read(examples.test_rows).sample(DIAGNOSED_ROWS)
    diagnostics = Diagnostics(factory.model)
    names = list(transformed_spec(factory.plan))
    for start, batch in zip(
        range(0, len(rows.facts), _DIAGNOSED_BATCH),
        rows.batches(names, _DIAGNOSED_BATCH),
        strict=True,
    ):
        part = slice(start, start + _DIAGNOSED_BATCH)
        facts = rows.facts
        diagnostics.add(ranker, batch, facts.length_bucket[part], facts.density_bucket[part])
    data = cell.config.data
    found = diagnostics.result(
        features.bucket_names(data.length_edges), features.bucket_names(data.density_edges)
    )
    plot_diagnostics(found, folder, cell.title)
    write_json(
        folder / "diagnostics.json",
        {"model": cell.model, "seed": cell.seed, "rows": len(rows.facts), **found},
    )


def cell_factory(cell: Cell, examples: ExampleSet) -> RankerFactory:
    """Returns what makes the cell's ranker."""
    return make_factory(
        read_run_config(cell.custom_config),
        tft.TFTransformOutput(examples.transform_graph),
        SequenceProfile.read(examples.profile),
    )


def score(ranker: Ranker, rows: ScoredRows, spec: dict[str, Any], batch_size: int) -> Array:
    """Returns the logits of all rows, float32 [rows].

    Args:
        ranker: trained.
        rows: what to score.
        spec: of a batch of transformed examples.
        batch_size: rows of a step.
    """

    @tf.function(input_signature=[spec])
    def logits_of(batch: dict[str, Any]) -> tf.Tensor:
        return ranker(batch, training=False)

    pieces = [logits_of(batch).numpy() for batch in rows.batches(list(spec), batch_size)]
    logits = np.concatenate(pieces)
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).sum())} test scores are not finite")
    return logits


def _training_figures(result: FitResult) -> dict[str, Any]:
    chosen = result.epochs[result.chosen_epoch - 1]
    ranker = result.ranker
    trained = [*result.epochs, *result.refit_epochs]
    return {
        "validation": _finite(chosen.validation),
        "validation_by_epoch": [_finite(epoch.validation) for epoch in result.epochs],
        "epochs": len(result.epochs),
        "chosen_epoch": result.chosen_epoch,
        "train_loss": chosen.loss,
        "train_seconds": sum(epoch.seconds for epoch in trained),
        "examples_per_second": chosen.examples_per_second,
        "parameters": {
            "tables": sum(int(tf.size(table)) for table in ranker.tables),
            "dense": sum(int(tf.size(weight)) for weight in ranker.dense_weights),
        },
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
