"""What a run did, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from schemas import features
from schemas.writing import undefined_as_none, write_text

# Beside summary.json, of a run whose examples failed.
FAILED_DEAD_LETTER = "failed_dead_letter.jsonl"


@dataclass
class Summary:
    """The JSON of ``--summary``.

    Attributes:
        status: ``pushed``, ``unchanged``, ``not_blessed`` or ``failed``.
        version_folder: folder of the model that serves now by this run, if any.
        steps: seconds of each step and whether it was answered from the cache.
        overall: metrics on the test split.
        slices: the same by slice, such as ``length_bucket:0-9``.
        not_judged: buckets that could not refuse the model, and why; ``max_worsening`` where
            there was no blessed model to compare with.
        baseline: metrics of the last blessed model on the same test split; empty without one.
        counters: rows read, rejected and dropped, examples by split.
        training: chosen epoch, validation metrics, examples per second.
        canary: what the model showed in a server; empty without one.
        refusals: why the model was not pushed.
        error: what failed, and why.
        dead_letter: file of the rows put aside, if there are any.
        snapshot: folder of the history snapshot that the run made.
        log: file with everything that the frameworks printed.
    """

    status: str = "failed"
    version_folder: str | None = None
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    overall: dict[str, Any] = field(default_factory=dict)
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    not_judged: dict[str, str] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    canary: dict[str, Any] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    error: str | None = None
    dead_letter: str | None = None
    snapshot: str | None = None
    log: str | None = None

    def write(self, path: Path) -> None:
        """Writes the summary, as a whole or not at all."""
        values = undefined_as_none(asdict(self))
        write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def find_not_judged(
    slices: Mapping[str, Mapping[str, Any]], config: RunConfig, *, compared: bool = True
) -> dict[str, str]:
    """Finds what could not refuse a model: small buckets, undefined metrics, no comparison.

    Args:
        slices: metrics by slice, such as ``length_bucket:0-9``; None where one is undefined.
        config: the run.
        compared: whether there was a blessed model to compare with.

    Returns:
        Why each was not judged; only of what the configuration has thresholds for.
    """
    reasons = {}
    evaluation = config.evaluation
    if not compared and slices and (evaluation.max_worsening or evaluation.slice_max_worsening):
        reasons["max_worsening"] = f"no other blessed model of run.name {config.run.name!r}"
    checked = sorted({*evaluation.slice_thresholds, *evaluation.slice_max_worsening})
    if not checked or not slices:
        return reasons
    edges = {
        features.LENGTH_BUCKET: config.data.length_edges,
        features.DENSITY_BUCKET: config.data.density_edges,
    }
    for dimension, lower in edges.items():
        for bucket in features.bucket_names(lower):
            name = f"{dimension}:{bucket}"
            found = slices.get(name, {})
            examples = found.get("example_count", 0)
            undefined = [metric.value for metric in checked if found.get(metric.value) is None]
            if examples < evaluation.min_slice_size:
                reasons[name] = f"{examples:,} examples"
            elif undefined and not found.get("invalid_scores"):
                reasons[name] = f"{', '.join(undefined)} undefined"
    return reasons
