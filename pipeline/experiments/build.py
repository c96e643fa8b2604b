"""Builds an example set: the pipeline of a run, cut after Transform, and its test rows."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.proto.orchestration import pipeline_pb2

from models.inputs import list_files
from pipeline.create import create_pipeline
from pipeline.experiments.example_sets import SCORED_ROWS, ExampleSet, set_folder, stamp_of
from pipeline.experiments.grid import Cell
from pipeline.experiments.scored_rows import make_scored_rows
from pipeline.leftovers import remove_leftovers
from pipeline.prepare import METADATA, Prepared, prepare
from pipeline.runner import DEFAULT_BEAM_ARGS, WatchedDagRunner
from schemas import features
from schemas.profile import PROFILE_FILE

_LAST_NODES = ("Transform", "SequenceProfile")
_SPLIT = "{uri}/Split-{split}/*"

_logger = logging.getLogger(__name__)


class UpToTransform(WatchedDagRunner):
    """Runs what Transform and SequenceProfile need, them included, and nothing after them."""

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, *args: Any, **kwargs: Any) -> None:
        """Runs the nodes of a pipeline in order."""
        nodes = {node.pipeline_node.node_info.id: node for node in pipeline.nodes}
        needed: set[str] = set()
        waiting = list(_LAST_NODES)
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += nodes[name].pipeline_node.upstream_nodes
        kept = [node for name, node in nodes.items() if name in needed]
        del pipeline.nodes[:]
        pipeline.nodes.extend(kept)
        super().run_with_ir(pipeline, *args, **kwargs)


class LoggedSteps:
    """Logs each step of a run."""

    def __init__(self) -> None:
        self._step = ""
        self._began = 0.0

    def start(self, step: str) -> None:
        """A step begins."""
        self._step, self._began = step, time.monotonic()

    def finish(self, *, cached: bool = False) -> None:
        """The step has ended well."""
        state = "cached" if cached else f"{time.monotonic() - self._began:.1f} s"
        _logger.info("%s: %s", self._step, state)


def build_set(root: Path, cell: Cell) -> ExampleSet:
    """Builds the example set of a cell; what is in the pipeline's cache is not made again."""
    started = time.monotonic()
    folder = set_folder(root, cell.example_key)
    run = dataclasses.replace(cell.config.run, root=str(folder))
    config = dataclasses.replace(cell.examples_config, run=run)
    remove_leftovers(folder)
    prepared = prepare(config)
    stamp = stamp_of(cell)  # now that a simulated log is there
    _run_up_to_transform(prepared)
    places = _places(folder / METADATA)
    graph = places["Transform", "transform_graph"]
    transformed = places["Transform", "transformed_examples"]
    raw = places["ExampleGen", "examples"]
    files = list_files(
        [_SPLIT.format(uri=raw, split=features.TEST_SPLIT)], split=features.TEST_SPLIT
    )
    rows = make_scored_rows(files, tft.TFTransformOutput(graph))
    rows.write(folder / SCORED_ROWS)
    _logger.info("test rows: %d", len(rows.facts))
    built = ExampleSet(
        key=cell.example_key,
        stamp=stamp,
        train_files=_SPLIT.format(uri=transformed, split=features.TRAIN_SPLIT),
        validation_files=_SPLIT.format(uri=transformed, split=features.VALIDATION_SPLIT),
        test_rows=str(folder / SCORED_ROWS),
        transform_graph=graph,
        profile=str(Path(places["SequenceProfile", "profile"]) / PROFILE_FILE),
        seconds=round(time.monotonic() - started, 1),
    )
    built.write(folder)
    return built


def _run_up_to_transform(prepared: Prepared) -> None:
    given = prepared.config.run.beam_args
    chosen = any(flag.startswith("--runner") for flag in given)
    beam_args = given if chosen else (*DEFAULT_BEAM_ARGS, *given)
    UpToTransform(LoggedSteps()).run(create_pipeline(prepared, uuid.uuid4().hex, beam_args))


def _places(database: Path) -> dict[tuple[str, str], str]:
    """Returns the folders of the last run's outputs by component and output."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(database)
    store = MetadataStore(connection)
    last = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    # A folder is <pipeline root>/<component>/<output>/<execution>.
    uris = sorted(
        (artifact.id, artifact.uri) for artifact in store.get_artifacts_by_context(last.id)
    )
    return {(Path(uri).parts[-3], Path(uri).parts[-2]): uri for _, uri in uris}
