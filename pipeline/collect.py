"""Collects what each component of the last run left in its artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from beam_jobs.examples import DEAD_LETTER, REPORT
from components.evaluation.results import read_metrics, read_refusals
from components.example_gen.earlier import EARLIER_FILE
from components.pusher.executor import PUSH_FILE
from components.serving_canary.executor import CANARY_FILE, REFUSED
from models.trainer import SUMMARY_FILE
from pipeline.prepare import METADATA
from pipeline.summary import Summary

_RUN_CONTEXT = "pipeline_run"


def collect(summary: Summary, root: Path) -> None:
    """Fills in what the last run of ``root`` left in its artifacts."""
    for artifact_type, artifact in artifacts_of_last_run(root / METADATA):
        folder = Path(artifact.uri)
        if artifact_type == "Examples" and (folder / REPORT).exists():
            report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
            summary.counters = {
                **report["counts"],
                **{f"examples:{name}": count for name, count in report["examples"].items()},
                **{f"positives:{name}": count for name, count in report["positives"].items()},
            }
            earlier = json.loads((folder / EARLIER_FILE).read_text(encoding="utf-8"))
            summary.counters["examples:train_earlier"] = earlier["examples"]
            if (folder / DEAD_LETTER).exists():
                summary.dead_letter = str(folder / DEAD_LETTER)
            summary.snapshot = artifact.custom_properties["snapshot"].string_value or None
        elif artifact_type == "ModelRun" and (folder / SUMMARY_FILE).exists():
            training = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
            training.pop("config", None)
            summary.training = training
        elif artifact_type == "ModelEvaluation":
            metrics = read_metrics(folder)
            summary.overall, summary.slices = metrics["overall"], metrics["slices"]
            summary.baseline = read_metrics(folder, baseline=True)["overall"]
            summary.refusals = read_refusals(folder) + summary.refusals
        elif artifact_type == "LengthwiseCanaryResult" and (folder / CANARY_FILE).exists():
            summary.canary = json.loads((folder / CANARY_FILE).read_text(encoding="utf-8"))
            if summary.canary["status"] == REFUSED:
                summary.refusals = summary.refusals + summary.canary["reasons"]
        elif artifact_type == "PushedModel" and (folder / PUSH_FILE).exists():
            push = json.loads((folder / PUSH_FILE).read_text(encoding="utf-8"))
            summary.status, summary.version_folder = push["status"], push["path"]
            if push["status"] == "not_blessed" and not summary.refusals:
                summary.refusals = [push["reason"]]


def artifacts_of_last_run(
    database: Path,
) -> Iterator[tuple[str, metadata_store_pb2.Artifact]]:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    store = mlmd.MetadataStore(config)
    runs = store.get_contexts_by_type(_RUN_CONTEXT)
    if not runs:
        return
    last = max(runs, key=lambda context: context.id)
    executions = store.get_executions_by_context(last.id)
    outputs = [
        event.artifact_id
        for event in store.get_events_by_execution_ids([execution.id for execution in executions])
        if event.type in (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)
    ]
    types = {kind.id: kind.name for kind in store.get_artifact_types()}
    for artifact in store.get_artifacts_by_id(sorted(set(outputs))):
        if artifact.state == metadata_store_pb2.Artifact.LIVE:
            yield types[artifact.type_id], artifact
