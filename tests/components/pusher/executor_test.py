from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.types import channel, standard_artifacts

from components.pusher import component, executor, versions


class Push:
    """Runs the executor on artifacts in a folder."""

    def __init__(self, folder: Path, make_artifact: Callable[..., Any]) -> None:
        self.destination = folder / "serving"
        self.model = folder / "model" / "Format-Serving"
        (self.model / "variables").mkdir(parents=True)
        (self.model / "saved_model.pb").write_bytes(b"graph")
        (self.model / "variables" / "variables.index").write_bytes(b"weights")
        self.folder = folder
        self._make = make_artifact
        self._runs = 0

    def blessing(self, kind: Any, *, blessed: bool) -> Any:
        artifact = self._make(kind, self.folder / kind.TYPE_NAME)
        artifact.set_int_custom_property("blessed", int(blessed))
        return artifact

    def run(self, **blessings: Any) -> tuple[dict[str, Any], Any]:
        """Returns the content of push.json and the PushedModel artifact."""
        self._runs += 1
        model = self._make(standard_artifacts.Model, self.model.parent)
        output = self._make(standard_artifacts.PushedModel, self.folder / f"pushed{self._runs}")
        inputs = {"model": [model], **{name: [one] for name, one in blessings.items()}}
        executor.Executor().Do(
            inputs,
            {"pushed_model": [output]},
            {"destination": str(self.destination), "run_id": f"run {self._runs}"},
        )
        return json.loads((Path(output.uri) / "push.json").read_text()), output


@pytest.fixture
def push(tmp_path: Path, make_artifact: Callable[..., Any]) -> Push:
    return Push(tmp_path, make_artifact)


def test_a_blessed_model_is_pushed_once(push: Push) -> None:
    blessing = push.blessing(standard_artifacts.ModelBlessing, blessed=True)

    first, artifact = push.run(model_blessing=blessing)
    second, again = push.run(model_blessing=blessing)

    path = str(push.destination / "1")
    assert first == {
        "status": "pushed",
        "reason": "written as version 1",
        "version": 1,
        "path": path,
    }
    assert artifact.get_int_custom_property("pushed") == 1
    assert artifact.get_string_custom_property("pushed_destination") == path
    assert artifact.get_string_custom_property("pushed_version") == "1"
    assert second == {
        "status": "unchanged",
        "reason": "version 1 is this model already",
        "version": 1,
        "path": path,
    }
    assert again.get_int_custom_property("pushed") == 0
    record = json.loads(
        (push.destination / "1/assets.extra" / versions.FINGERPRINT_FILE).read_text()
    )
    assert record["run_id"] == "run 1"
    assert record["fingerprint"] == versions.fingerprint(push.model)


@pytest.mark.parametrize(
    ("model_blessed", "infra_blessed", "reason"),
    [
        (False, True, "the evaluation refused the model"),
        (True, False, "the server check refused the model"),
        (False, False, "the evaluation refused the model; the server check refused the model"),
    ],
)
def test_every_wired_blessing_must_be_given(
    push: Push, model_blessed: bool, infra_blessed: bool, reason: str
) -> None:
    content, artifact = push.run(
        model_blessing=push.blessing(standard_artifacts.ModelBlessing, blessed=model_blessed),
        infra_blessing=push.blessing(standard_artifacts.InfraBlessing, blessed=infra_blessed),
    )

    assert content == {"status": "not_blessed", "reason": reason, "version": None, "path": None}
    assert artifact.get_int_custom_property("pushed") == 0
    assert not push.destination.exists()


def test_the_stamped_copy_is_pushed_and_the_trainer_s_model_identifies_it(push: Push) -> None:
    blessing = push.blessing(standard_artifacts.InfraBlessing, blessed=True)
    blessing.set_int_custom_property("has_model", 1)
    stamped = Path(blessing.uri) / "stamped_model"
    extra = stamped / "assets.extra"
    extra.mkdir(parents=True)
    (stamped / "saved_model.pb").write_bytes(b"graph")
    (extra / "tf_serving_warmup_requests").write_bytes(b"first requests")

    first, _ = push.run(infra_blessing=blessing)
    (extra / "tf_serving_warmup_requests").write_bytes(b"other requests")
    second, _ = push.run(infra_blessing=blessing)

    assert (first["status"], second["status"]) == ("pushed", "unchanged")
    pushed = push.destination / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert pushed.read_bytes() == b"first requests"


def test_a_deleted_destination_is_filled_again(push: Push) -> None:
    import shutil

    push.run()
    shutil.rmtree(push.destination)

    content, _ = push.run()

    assert content["status"] == "pushed"
    assert (push.destination / "1" / "saved_model.pb").is_file()


def test_a_url_is_no_destination() -> None:
    with pytest.raises(ValueError, match="mounted file system"):
        component.VersionedPusher(
            channel.Channel(type=standard_artifacts.Model),
            destination="gs://bucket/serving",
            run_id="1",
        )


def test_the_cache_does_not_answer_for_the_destination(push: Push) -> None:
    def run(run_id: str) -> None:
        model = importer.Importer(
            source_uri=str(push.model.parent), artifact_type=standard_artifacts.Model
        ).with_id("model")
        pusher = component.VersionedPusher(
            model.outputs["result"], destination=str(push.destination), run_id=run_id
        )
        database = metadata.sqlite_metadata_connection_config(str(push.folder / "metadata.db"))
        local_dag_runner.LocalDagRunner().run(
            pipeline.Pipeline(
                pipeline_name="push",
                pipeline_root=str(push.folder / "root"),
                components=[model, pusher],
                metadata_connection_config=database,
                enable_cache=True,
            )
        )

    run("first")
    (push.destination / "1" / "saved_model.pb").unlink()
    run("second")

    assert [one.number for one in versions.read_versions(push.destination)] == [2]
