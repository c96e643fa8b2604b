from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import artifact_utils, channel, standard_artifacts

from components.artifacts import CanaryResult
from components.pusher import executor as pusher
from components.pusher.component import VersionedPusher
from components.serving_canary import component, executor
from schemas.loading import to_plain
from serving.canary.config import CanaryConfig, ServerChoice
from serving.server.versions.warmup import REQUESTS
from tests.serving.canary.models import make_examples, write_model

# Starts processes that import TensorFlow, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

CONFIG = CanaryConfig(
    server=ServerChoice.EMBEDDED,
    examples=20,
    latency_p99_ms=20_000.0,
    latency_calls=2,
    batch_sizes=(1, 2),
    timeout_seconds=300.0,
)


class Canary:
    """Runs the executor on artifacts in a folder."""

    def __init__(self, folder: Path, make_artifact: Callable[..., Any]) -> None:
        self.folder = folder
        self.make = make_artifact
        self.model = make_artifact(standard_artifacts.Model, folder / "model")
        self.model.id = 5
        self.examples = make_artifact(standard_artifacts.Examples, folder / "examples", ["test"])
        split = folder / "examples" / "Split-test"
        split.mkdir(parents=True)
        examples = make_examples(24)
        for part in range(2):
            with tf.io.TFRecordWriter(str(split / f"part-{part}")) as writer:
                for example in examples[part::2]:
                    writer.write(example)
        self.blessing: Any = None
        self.result: Any = None

    def run(self, *, model_blessed: bool | None = None) -> dict[str, Any]:
        """Returns the content of canary.json."""
        self.blessing = self.make(standard_artifacts.InfraBlessing, self.folder / "infra")
        self.result = self.make(CanaryResult, self.folder / "result")
        for artifact in (self.blessing, self.result):
            Path(artifact.uri).mkdir()
        inputs = {"model": [self.model], "examples": [self.examples]}
        if model_blessed is not None:
            model_blessing = self.make(standard_artifacts.ModelBlessing, self.folder / "blessing")
            model_blessing.set_int_custom_property("blessed", int(model_blessed))
            inputs["model_blessing"] = [model_blessing]
        executor.Executor().Do(
            inputs,
            {"infra_blessing": [self.blessing], "result": [self.result]},
            {"config": json.dumps(to_plain(CONFIG))},
        )
        return json.loads((Path(self.result.uri) / "canary.json").read_text())

    def push(self) -> dict[str, Any]:
        """Runs the pusher on what the canary left; returns the content of push.json."""
        pushed = self.make(standard_artifacts.PushedModel, self.folder / "pushed")
        pusher.Executor().Do(
            {"model": [self.model], "infra_blessing": [self.blessing]},
            {"pushed_model": [pushed]},
            {"destination": str(self.folder / "serving"), "run_id": "run"},
        )
        return json.loads((Path(pushed.uri) / "push.json").read_text())


@pytest.fixture
def canary(tmp_path: Path, make_artifact: Callable[..., Any]) -> Canary:
    return Canary(tmp_path, make_artifact)


def test_a_good_model_is_blessed_and_its_warm_copy_pushed(canary: Canary) -> None:
    write_model(canary.folder / "model" / "Format-Serving")

    report = canary.run(model_blessed=True)

    assert report["reasons"] == []
    assert report["status"] == "passed"
    assert report["server"] == "embedded"
    assert report["examples"] == 20
    assert report["warmup_records"] == 10
    assert set(report["signatures"]["rank"]["max_difference"]) == {"gRPC", "REST"}
    assert canary.blessing.get_int_custom_property("blessed") == 1
    assert canary.blessing.get_int_custom_property("has_model") == 1
    assert sorted(path.name for path in Path(canary.blessing.uri).iterdir()) == [
        "INFRA_BLESSED",
        "stamped_model",
    ]
    assert [path.name for path in Path(canary.result.uri).iterdir()] == ["canary.json"]
    artifact_utils.verify_artifacts([canary.blessing, canary.result])

    assert canary.push()["status"] == "pushed"
    assert (canary.folder / "serving" / "1" / REQUESTS).is_file()
    # The fingerprint is that of the Trainer's model, so a second push finds it.
    assert canary.push()["status"] == "unchanged"


def test_a_bad_model_is_refused_with_reasons_and_tried_again(canary: Canary) -> None:
    (canary.folder / "model" / "Format-Serving").mkdir(parents=True)

    report = canary.run(model_blessed=True)

    assert report["status"] == "refused"
    assert report["reasons"][0].startswith("canary load: ")
    assert canary.blessing.get_int_custom_property("blessed") == 0
    # The cache takes no answer whose outputs are gone.
    with pytest.raises(RuntimeError, match="is missing"):
        artifact_utils.verify_artifacts([canary.blessing])
    assert canary.push() == {
        "status": "not_blessed",
        "reason": "the server check refused the model",
        "version": None,
        "path": None,
    }


def test_a_model_that_was_not_blessed_is_not_tried(canary: Canary) -> None:
    report = canary.run(model_blessed=False)

    assert canary.blessing.get_int_custom_property("current_model_id") == 5

    assert report["status"] == "skipped"
    assert "the evaluation did not bless the model" in report["reasons"][0]
    assert canary.blessing.get_int_custom_property("blessed") == 0
    # No verdict: a model that serves since another run must stay the baseline of the next.
    assert not canary.blessing.has_custom_property("blessed")


def test_examples_are_taken_from_all_files_in_turn(canary: Canary) -> None:
    examples = list(executor._read_split([canary.examples], "test"))

    assert examples == make_examples(24)


def test_a_refusal_does_not_come_from_the_cache(canary: Canary) -> None:
    (canary.folder / "model" / "Format-Serving").mkdir(parents=True)
    results = canary.folder / "root" / "ServingCanary" / "result"

    for run in (1, 2):
        # Pusher is in it, since it reads a blessing whose folder is gone.
        nodes = _nodes(canary, f"run {run}")
        database = metadata.sqlite_metadata_connection_config(str(canary.folder / "metadata.db"))
        local_dag_runner.LocalDagRunner().run(
            pipeline.Pipeline(
                pipeline_name="canary",
                pipeline_root=str(canary.folder / "root"),
                components=nodes,
                metadata_connection_config=database,
                enable_cache=True,
            )
        )
        reports = [json.loads(path.read_text()) for path in results.glob("*/canary.json")]
        assert [report["status"] for report in reports] == ["refused"] * run
    pushes = (canary.folder / "root" / "VersionedPusher").glob("pushed_model/*/push.json")
    assert {json.loads(path.read_text())["status"] for path in pushes} == {"not_blessed"}
    assert not (canary.folder / "serving").exists()


def _nodes(canary: Canary, run_id: str) -> list[Any]:
    model = importer.Importer(
        source_uri=canary.model.uri, artifact_type=standard_artifacts.Model
    ).with_id("model")
    examples = importer.Importer(
        source_uri=canary.examples.uri,
        artifact_type=standard_artifacts.Examples,
        properties={"split_names": canary.examples.split_names},
    ).with_id("examples")
    checked = component.ServingCanary(
        model=model.outputs["result"], examples=examples.outputs["result"], config=to_plain(CONFIG)
    )
    pushed = VersionedPusher(
        model=model.outputs["result"],
        infra_blessing=checked.outputs["infra_blessing"],
        destination=str(canary.folder / "serving"),
        run_id=run_id,
    )
    return [model, examples, checked, pushed]


def test_component_wires_what_the_executor_reads() -> None:
    built = component.ServingCanary(
        model=channel.Channel(type=standard_artifacts.Model),
        examples=channel.Channel(type=standard_artifacts.Examples),
        config=to_plain(CONFIG),
        source_hash="hash",
    )

    assert set(built.inputs) == {"model", "examples"}
    assert set(built.outputs) == {"infra_blessing", "result"}
    assert built.outputs["infra_blessing"].type is standard_artifacts.InfraBlessing
    assert json.loads(built.exec_properties["config"])["batch_sizes"] == [1, 2]
