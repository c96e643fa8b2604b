"""Runs a prepared pipeline on this machine, step by step."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from beam_jobs.snapshot import REFUSED
from components.errors import DataRefused
from pipeline.collect import artifacts_of_last_run
from pipeline.create import create_pipeline
from pipeline.prepare import METADATA, Prepared

CreatePipeline: TypeAlias = Callable[[Prepared, str, Sequence[str]], Pipeline]

# Without a container image named, each component would build a source distribution of TFX.
DEFAULT_BEAM_ARGS = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=unused",
)
GATE = "SchemaGate"


class Watcher(Protocol):
    """Is told of each step of a run."""

    def start(self, step: str) -> None:
        """A step begins."""

    def finish(self, *, cached: bool = False) -> None:
        """The step has ended well."""


class WatchedDagRunner(LocalDagRunner):
    """TFX's local runner, telling a watcher of each step.

    The stock runner only logs, at a level that other parts of TFX change on the way.
    """

    def __init__(self, watcher: Watcher):
        super().__init__()
        self._watcher = watcher

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: pipeline_pb2.RunOptions | None = None,
        **kwargs: Any,
    ) -> None:
        """Runs the nodes of a pipeline in order.

        Raises:
            ValueError: partial runs are not supported.
        """
        if run_options is not None:
            raise ValueError("partial runs are not supported")
        run_id = datetime.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        which = deployment.metadata_connection_config.WhichOneof("connection_config")
        connection = getattr(deployment.metadata_connection_config, which)
        for node in pipeline.nodes:
            name = node.pipeline_node.node_info.id
            self._watcher.start(name)
            execution = launcher.Launcher(
                pipeline_node=node.pipeline_node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, name),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
            ).launch()
            self._watcher.finish(cached=_is_cached(connection, execution))


class SnapshotApprover:
    """Lets the next day start from the snapshot of this one as soon as its data are taken.

    Whatever becomes of the model, or of the run, the histories are fit by then, and not before.
    """

    def __init__(self, watcher: Watcher, root: Path):
        """Watches a run.

        Args:
            watcher: is told of each step as well.
            root: folder of the run.
        """
        self._watcher = watcher
        self._root = root
        self._step = ""

    def start(self, step: str) -> None:
        """A step begins."""
        self._step = step
        self._watcher.start(step)

    def finish(self, *, cached: bool = False) -> None:
        """The step has ended well."""
        if self._step == GATE:
            mark_snapshot(self._root, refused=False)
        self._watcher.finish(cached=cached)


def mark_snapshot(root: Path, *, refused: bool) -> None:
    """Says whether the snapshot of the last run may be the start of another day."""
    for kind, artifact in artifacts_of_last_run(root / METADATA):
        snapshot = artifact.custom_properties["snapshot"].string_value
        # Whoever refused the day as well may have removed it.
        if kind == "Examples" and snapshot and Path(snapshot).is_dir():
            mark = Path(snapshot) / REFUSED
            if refused:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)


def run_pipeline(
    prepared: Prepared, watcher: Watcher, *, create: CreatePipeline = create_pipeline
) -> None:
    """Runs a pipeline; temporary files stay inside the run's folder and are removed.

    Args:
        prepared: the run, its inputs found and checked.
        watcher: is told of each step.
        create: makes the pipeline from the run, an id of its own and flags for Beam.

    Raises:
        Exception: whatever the failing step raised.
    """
    temporary = prepared.root / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    try:
        given = prepared.config.run.beam_args
        chosen = any(flag.startswith("--runner") for flag in given)
        beam_args = given if chosen else (*DEFAULT_BEAM_ARGS, *given)
        pipeline = create(prepared, uuid.uuid4().hex, beam_args)
        WatchedDagRunner(SnapshotApprover(watcher, prepared.root)).run(pipeline)
    except DataRefused:
        mark_snapshot(prepared.root, refused=True)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_cached(connection: metadata_store_pb2.ConnectionConfig, execution: Any) -> bool:
    if execution is None or execution.execution_id is None:
        return False
    with metadata.Metadata(connection) as store:
        [found] = store.store.get_executions_by_id([execution.execution_id])
    return bool(found.last_known_state == metadata_store_pb2.Execution.CACHED)
