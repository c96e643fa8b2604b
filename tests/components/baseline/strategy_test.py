"""Tests of which model a candidate is compared with."""

from __future__ import annotations

from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.common import importer, resolver
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import channel, standard_artifacts

from components.baseline.strategy import OtherBlessedModelStrategy


def model(number: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(of: int, *, blessed: bool) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def infra_blessing(
    number: int, of: int, *, blessed: bool | None
) -> standard_artifacts.InfraBlessing:
    artifact = standard_artifacts.InfraBlessing()
    artifact.id = number
    artifact.set_int_custom_property("current_model_id", of)
    if blessed is not None:
        artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def resolve(
    models: list[int],
    blessed: dict[int, bool],
    candidate: int,
    served: list[tuple[int, int, bool | None]] | None = None,
) -> list[int]:
    resolved = OtherBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": [model(number) for number in models],
            "model_blessing": [blessing(n, blessed=good) for n, good in blessed.items()],
            "infra_blessing": [
                infra_blessing(number, of, blessed=good) for number, of, good in served or []
            ],
            "candidate": [model(candidate)],
        },
    )
    assert resolved is not None
    assert [artifact.id for artifact in resolved["candidate"]] == [candidate]
    assert len(resolved["model_blessing"]) == len(resolved["model"])
    assert resolved.keys() == {"candidate", "model", "model_blessing", "infra_blessing"}
    return [artifact.id for artifact in resolved["model"]]


def test_the_first_model_has_no_baseline() -> None:
    assert resolve([1], {}, candidate=1) == []


def test_the_last_blessed_model_is_the_baseline() -> None:
    assert resolve([1, 2, 3, 4], {1: True, 2: True, 3: False}, candidate=4) == [2]


def test_a_model_is_never_its_own_baseline() -> None:
    assert resolve([1], {1: True}, candidate=1) == []
    assert resolve([1, 2], {1: True, 2: True}, candidate=2) == [1]
    assert resolve([1, 2], {1: True, 2: True}, candidate=1) == [2]


def test_a_model_that_the_canary_refused_is_no_baseline() -> None:
    blessed = {1: True, 2: True, 3: True}
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(7, 2, False)]) == [1]
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(7, 1, False), (8, 2, True)]) == [2]
    assert resolve([1, 2], blessed, candidate=2, served=[(7, 1, False)]) == []


def test_a_model_that_the_canary_once_passed_stays_a_baseline() -> None:
    """It was pushed then; a later refusal, as by a stricter limit, takes nothing back."""
    blessed = {1: True, 2: True, 3: True}
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(8, 2, True), (7, 2, False)]) == [2]
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(8, 2, False), (7, 2, True)]) == [2]


def test_a_model_that_the_canary_did_not_try_was_not_refused_by_it() -> None:
    """As in a run whose thresholds were raised for a while, after the model had been pushed."""
    blessed = {1: True, 2: True}
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(7, 2, True), (8, 2, None)]) == [2]
    assert resolve([1, 2, 3], blessed, candidate=3, served=[(8, 2, None)]) == [2]


def test_a_model_from_before_there_was_a_canary_is_a_baseline() -> None:
    assert resolve([1, 2], {1: True}, candidate=2, served=[(7, 2, False)]) == [1]


def test_it_resolves_in_a_run_where_nothing_was_blessed_yet(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    trained = importer.Importer(
        source_uri=str(tmp_path / "model"), artifact_type=standard_artifacts.Model
    ).with_id("model")
    node = resolver.Resolver(
        strategy_class=OtherBlessedModelStrategy,
        model=channel.Channel(type=standard_artifacts.Model),
        model_blessing=channel.Channel(type=standard_artifacts.ModelBlessing),
        infra_blessing=channel.Channel(type=standard_artifacts.InfraBlessing),
        candidate=trained.outputs["result"],
    ).with_id("resolver")
    database = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.db"))

    local_dag_runner.LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="baseline",
            pipeline_root=str(tmp_path / "root"),
            components=[trained, node],
            metadata_connection_config=database,
        )
    )

    with metadata.Metadata(database) as handler:
        states = [execution.last_known_state for execution in handler.store.get_executions()]
    complete = metadata_store_pb2.Execution.State.COMPLETE
    assert states == [complete, complete]
