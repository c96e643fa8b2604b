"""Tests of what the next run removes of a killed one."""

from __future__ import annotations

from pathlib import Path

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2

from pipeline.leftovers import remove_leftovers
from pipeline.prepare import METADATA

Execution = metadata_store_pb2.Execution


def make(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")


def test_staging_folders_are_removed_and_nothing_else(tmp_path: Path) -> None:
    keep = [tmp_path / "snapshots" / "a", tmp_path / "pipeline" / "ExampleGen" / "examples" / "1"]
    drop = [Path(f"{folder}.staging-0a1b2c3d") for folder in keep]
    make(*keep, *drop)
    remove_leftovers(tmp_path)
    assert all((folder / "file").exists() for folder in keep)
    assert not any(folder.exists() for folder in drop)
    assert not (tmp_path / METADATA).exists()


def test_outputs_of_steps_that_did_not_end_are_removed_and_no_others(tmp_path: Path) -> None:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / METADATA)
    config.sqlite.connection_mode = config.sqlite.READWRITE_OPENCREATE
    store = mlmd.MetadataStore(config)
    kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name="Transform"))
    states = (Execution.COMPLETE, Execution.RUNNING, Execution.CACHED, Execution.RUNNING)
    ids = store.put_executions([Execution(type_id=kind, last_known_state=one) for one in states])
    transform, trainer = tmp_path / "pipeline" / "Transform", tmp_path / "pipeline" / "Trainer"
    good, killed, _, trained = (str(number) for number in ids)
    keep = [
        transform / "transform_graph" / good,
        transform / ".system" / "executor_execution" / good,
        trainer / "model_run" / trained,
        tmp_path / "serving" / killed,
        tmp_path / "snapshots" / killed,
    ]
    drop = [
        transform / "transform_graph" / killed,
        transform / "transformed_examples" / killed,
        transform / ".system" / "executor_execution" / killed,
        transform / ".system" / "stateful_working_dir" / "0c1d",
        trainer / "model" / trained,
    ]
    make(*keep, *drop)
    remove_leftovers(tmp_path)
    assert all((folder / "file").exists() for folder in keep)
    assert not any(folder.exists() for folder in drop)
