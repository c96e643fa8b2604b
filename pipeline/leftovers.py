"""Removes what a killed run left in its folder; call it with the lock of the root held."""

from __future__ import annotations

import shutil
from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline.prepare import METADATA, PIPELINE, SNAPSHOTS
from pipeline.summary import FAILED_DEAD_LETTER

# The curves of a training that goes on from its checkpoint begin there.
_KEPT = "model_run"


def remove_leftovers(root: Path) -> None:
    """Removes staging folders, and the outputs of steps that did not end."""
    (root / FAILED_DEAD_LETTER).unlink(missing_ok=True)
    patterns = [
        f"{SNAPSHOTS}/*.staging-*",
        f"{PIPELINE}/*/examples/*.staging-*",
        f"{PIPELINE}/*/.system/stateful_working_dir/*",
    ]
    for number in _unfinished(root / METADATA):
        # TFX names the folder of an output by the execution, and removes it only after an error.
        patterns += [
            f"{PIPELINE}/*/*/{number}",
            f"{PIPELINE}/*/.system/executor_execution/{number}",
        ]
    for pattern in patterns:
        for folder in root.glob(pattern):
            if folder.parent.name != _KEPT:
                shutil.rmtree(folder, ignore_errors=True)


def _unfinished(database: Path) -> list[int]:
    """Returns the executions that still run by the metadata, though no process holds the root."""
    if not database.exists():
        return []
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    return [
        execution.id
        for execution in mlmd.MetadataStore(config).get_executions()
        if execution.last_known_state == metadata_store_pb2.Execution.RUNNING
    ]
