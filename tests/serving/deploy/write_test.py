"""The folder of a deployment: read back with the server's own messages and as YAML."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from schemas.loading import ConfigError, build
from serving.deploy.config import IMAGE, BatchingFileConfig, DeployConfig
from serving.deploy.write import WARMUP, DeployError, check_model, write_deployment
from serving.protocol import messages
from serving.server.config import VersionPolicy


def write_version(
    model_dir: Path,
    name: str,
    *,
    tags: tuple[str, ...] = ("serve",),
    signatures: tuple[str, ...] = ("serving_default", "rank", "__saved_model_init_op"),
    tensorflow_version: str = "2.21.0",
    warmup: bool = True,
) -> Path:
    """Writes what a version folder looks like from outside."""
    folder = model_dir / name
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "variables.index").touch()
    model = messages.SavedModel()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.extend(tags)
    graph.meta_info_def.tensorflow_version = tensorflow_version
    for signature in signatures:
        graph.signature_def[signature].method_name = "tensorflow/serving/predict"
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    if warmup:
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra" / "tf_serving_warmup_requests").touch()
    return folder


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "ranker"
    for name in ("3", "4", "12"):
        write_version(folder, name)
    # What a push that is under way leaves, and what does not count.
    (folder / "13.staged").mkdir()
    (folder / "notes").mkdir()
    return folder


def settings(**values: Any) -> DeployConfig:
    return build(DeployConfig, values, where="deploy")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_server_files_parse_as_its_own_messages(model_dir: Path, tmp_path: Path) -> None:
    config = settings(
        versions={"specific": [4, 3]},
        labels={"stable": 3, "canary": 4},
        batching={"max_batch_size": 48, "batch_timeout_micros": 0},
        resources={"cpus": 3},
    )

    write_deployment(model_dir, tmp_path / "out", config)

    folder = tmp_path / "out" / "config"
    models = text_format.Parse((folder / "models.config").read_text(), messages.ModelServerConfig())
    (model,) = models.model_config_list.config
    assert (model.name, model.base_path) == ("ranker", "/models/ranker")
    assert model.model_platform == "tensorflow"
    assert list(model.model_version_policy.specific.versions) == [3, 4]
    assert dict(model.version_labels) == {"stable": 3, "canary": 4}
    batching = text_format.Parse(
        (folder / "batching.config").read_text(), messages.BatchingParameters()
    )
    assert batching.max_batch_size.value == 48
    assert batching.HasField("batch_timeout_micros")
    assert batching.num_batch_threads.value == 3
    assert list(batching.allowed_batch_sizes) == [1, 2, 4, 8, 16, 32, 48]
    assert batching.pad_variable_length_inputs
    monitoring = text_format.Parse(
        (folder / "monitoring.config").read_text(), messages.MonitoringConfig()
    )
    assert monitoring.prometheus_config.enable


def test_tensorflow_serving_s_own_module_reads_the_models_file(
    model_dir: Path, tmp_path: Path
) -> None:
    from tensorflow_serving.config import model_server_config_pb2

    write_deployment(model_dir, tmp_path / "out", settings(versions={"latest": 2}))

    text = (tmp_path / "out" / "config" / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert parsed.model_config_list.config[0].model_version_policy.latest.num_versions == 2


@pytest.mark.parametrize(
    ("versions", "served"),
    [
        ({}, [12]),
        ({"latest": 2}, [12, 4]),
        ({"latest": 9}, [12, 4, 3]),
        ({"specific": [3]}, [3]),
        ({"all": True}, [12, 4, 3]),
    ],
)
def test_the_versions_that_would_be_served_are_told(
    model_dir: Path, versions: dict[str, Any], served: list[int]
) -> None:
    found = check_model(model_dir, settings(versions=versions))

    assert [one.version for one in found] == served
    assert found[0].signatures == ("rank", "serving_default")


def test_a_number_may_begin_with_zeros(tmp_path: Path) -> None:
    write_version(tmp_path / "m", "0007")

    assert [one.version for one in check_model(tmp_path / "m", settings())] == [7]


def test_compose_runs_the_pinned_image_on_this_machine_only(
    model_dir: Path, tmp_path: Path
) -> None:
    config = settings(resources={"cpus": 4, "memory_gib": 1.5})

    write_deployment(model_dir, tmp_path / "out", config)

    compose = read(tmp_path / "out" / "compose.yaml")
    service = compose["services"]["serving"]
    assert service["image"] == IMAGE == "tensorflow/serving:2.21.0"
    assert service["entrypoint"] == ["tensorflow_model_server"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert service["deploy"]["resources"]["limits"] == {"cpus": "4", "memory": "1536M"}
    sources = {one["target"]: one["source"] for one in service["volumes"]}
    assert sources == {"/config": "./config", "/models/ranker": str(model_dir.resolve())}
    assert all(one["read_only"] for one in service["volumes"])
    assert "/v1/models/ranker" in service["healthcheck"]["test"][-1]


def test_every_file_that_a_flag_names_is_there(model_dir: Path, tmp_path: Path) -> None:
    write_deployment(model_dir, tmp_path / "out", settings(labels={"stable": 12}))

    service = read(tmp_path / "out" / "compose.yaml")["services"]["serving"]
    flags = dict(one.removeprefix("--").split("=", 1) for one in service["command"])
    named = {value for value in flags.values() if value.startswith("/config/")}
    assert len(named) == 3
    config_map = read(tmp_path / "out" / "kubernetes" / "configmap.yaml")["data"]
    for value in named:
        name = value.removeprefix("/config/")
        text = (tmp_path / "out" / "config" / name).read_text()
        assert config_map[name] == text
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    assert int(flags["load_retry_interval_micros"]) < 60_000_000
    assert flags["file_system_poll_wait_seconds"] == "1"


def test_without_labels_and_batching_their_flags_are_left_out(
    model_dir: Path, tmp_path: Path
) -> None:
    write_deployment(model_dir, tmp_path / "out", settings(batching={"enabled": False}))

    flags = read(tmp_path / "out" / "compose.yaml")["services"]["serving"]["command"]
    assert not [one for one in flags if "labels" in one or "batching" in one]
    assert not (tmp_path / "out" / "config" / "batching.config").exists()
    assert "batching.config" not in (tmp_path / "out" / "README.md").read_text()


def test_the_manifests_fit_together(model_dir: Path, tmp_path: Path) -> None:
    write_deployment(model_dir, tmp_path / "out", settings(name="home-feed"))

    manifests = {path.name: read(path) for path in (tmp_path / "out" / "kubernetes").glob("*.yaml")}
    for manifest in manifests.values():
        assert set(manifest) >= {"apiVersion", "kind", "metadata"}
        assert manifest["metadata"]["name"].startswith("home-feed")
    deployment = manifests["deployment.yaml"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    for name in ("service.yaml", "service-headless.yaml"):
        service = manifests[name]["spec"]
        assert service["selector"] == labels
        assert {one["targetPort"]: one["port"] for one in service["ports"]} == ports
    assert manifests["service-headless.yaml"]["spec"]["clusterIP"] == "None"
    assert manifests["disruption-budget.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in pod["volumes"]
    }
    (config_map,) = (one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one)
    assert config_map == manifests["configmap.yaml"]["metadata"]["name"]
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v1/models/home-feed", "port": "rest"}
    assert container["livenessProbe"]["tcpSocket"]["port"] == "grpc"
    assert container["resources"]["limits"]["memory"] == "4096Mi"
    mounts = {one["name"]: one for one in container["volumeMounts"]}
    assert f"--model_config_file={mounts['config']['mountPath']}/models.config" in container["args"]
    models = text_format.Parse(
        manifests["configmap.yaml"]["data"]["models.config"], messages.ModelServerConfig()
    )
    assert models.model_config_list.config[0].base_path == mounts["models"]["mountPath"]


def test_one_replica_has_no_disruption_budget(model_dir: Path, tmp_path: Path) -> None:
    write_deployment(model_dir, tmp_path / "out", settings(resources={"replicas": 1}))

    assert not (tmp_path / "out" / "kubernetes" / "disruption-budget.yaml").exists()


def test_the_readme_names_what_was_written(model_dir: Path, tmp_path: Path) -> None:
    write_deployment(model_dir, tmp_path / "out", settings(grpc_port=9500))

    text = (tmp_path / "out" / "README.md").read_text()
    assert "$" not in text
    for word in (IMAGE, "9500", str(model_dir.resolve()), "--load_retry_interval_micros"):
        assert word in text
    record = json.loads((tmp_path / "out" / "deployment.json").read_text())
    assert record["grpc_port"] == 9500


def test_writing_again_replaces_and_leaves_nothing(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_deployment(model_dir, out, settings())
    (out / "config" / "old").touch()
    (out / "compose.override.yaml").touch()
    # What a container sees is the folder that was mounted, whatever bears its name later.
    mounted = os.open(out / "config", os.O_RDONLY)

    write_deployment(
        model_dir, out, settings(batching={"enabled": False}, versions={"specific": [3]})
    )

    assert sorted(os.listdir(mounted)) == ["models.config", "monitoring.config"]
    with open(
        "models.config", opener=lambda name, flags: os.open(name, flags, dir_fd=mounted)
    ) as f:
        assert "versions: 3" in f.read()
    os.close(mounted)
    assert (out / "compose.override.yaml").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["models", "out"]


def test_a_folder_of_something_else_is_left_alone(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()

    with pytest.raises(DeployError, match="a new or empty folder"):
        write_deployment(model_dir, tmp_path, settings())
    assert (tmp_path / "mine.txt").exists()


def damage_protobuf(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"\xff\xff not a model")


def remove_protobuf(folder: Path) -> None:
    (folder / "saved_model.pb").unlink()


def remove_variables(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (damage_protobuf, "not a SavedModel"),
        (remove_protobuf, "saved_model.pb: No such file"),
        (remove_variables, "variables.index is missing"),
    ],
)
def test_a_version_that_could_not_be_loaded_is_refused(
    model_dir: Path, tmp_path: Path, damage: Any, text: str
) -> None:
    damage(model_dir / "12")

    with pytest.raises(DeployError, match=text) as caught:
        write_deployment(model_dir, tmp_path / "out", settings())
    assert "/12" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ({"tags": ("train",)}, "tag 'serve'"),
        ({"signatures": ("__saved_model_init_op",)}, "no signature"),
    ],
)
def test_a_graph_that_could_not_be_called_is_refused(
    tmp_path: Path, version: dict[str, Any], text: str
) -> None:
    write_version(tmp_path / "m", "1", **version)

    with pytest.raises(DeployError, match=text):
        check_model(tmp_path / "m", settings())


def test_a_place_without_versions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="folder of numbered versions"):
        check_model(tmp_path / "none", settings())
    with pytest.raises(DeployError, match="no numbered version"):
        check_model(tmp_path, settings())
    version = write_version(tmp_path / "m", "1")
    with pytest.raises(DeployError, match="a version itself"):
        check_model(version, settings())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"versions": {"specific": [5]}}, r"versions.specific 5: .* has 12, 4, 3"),
        ({"labels": {"stable": 3}}, r"labels.stable 3: not among the versions served, 12"),
    ],
)
def test_a_version_that_is_not_there_is_refused(
    model_dir: Path, values: dict[str, Any], text: str
) -> None:
    with pytest.raises(DeployError, match=text):
        check_model(model_dir, settings(**values))


def test_what_may_be_a_mistake_is_a_warning(tmp_path: Path) -> None:
    write_version(tmp_path / "m", "1", tensorflow_version="2.22.1", warmup=False)

    written = write_deployment(tmp_path / "m", tmp_path / "out", settings())

    assert len(written.warnings) == 2
    assert "2.22.1, newer than tensorflow/serving:2.21.0" in written.warnings[0]
    assert "warmup" in written.warnings[1]


def test_a_warm_up_request_that_batching_would_refuse_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    predict, classify = messages.PredictionLog(), messages.PredictionLog()
    for size in (24, 3):
        predict.predict_log.request.inputs["examples"].tensor_shape.dim.add().size = size
    for _ in range(33):
        classify.classify_log.request.input.example_list.examples.add()
    folder = write_version(tmp_path / "m", "1")
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for log in (predict, classify):
            writer.write(log.SerializeToString())

    with pytest.raises(DeployError, match=r"max_batch_size 32: version 1 .* of 33 rows"):
        check_model(tmp_path / "m", settings(batching={"max_batch_size": 32}))

    assert check_model(tmp_path / "m", settings())[0].warmup_rows == 33
    off = settings(batching={"max_batch_size": 32, "enabled": False})
    assert check_model(tmp_path / "m", off)[0].warmup_rows == 33
    (folder / WARMUP).write_bytes(b"not records")
    with pytest.raises(DeployError, match=r"tf_serving_warmup_requests: cannot be read"):
        check_model(tmp_path / "m", settings())


def test_a_good_model_has_no_warning(model_dir: Path, tmp_path: Path) -> None:
    assert write_deployment(model_dir, tmp_path / "out", settings()).warnings == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "Ranker"}, "name 'Ranker'"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"name": "r" * 41}, "up to 40"),
        ({"image": "tensorflow/serving"}, "a tag is expected"),
        ({"image": "localhost:5000/serving"}, "a tag is expected"),
        ({"image": "tensorflow/serving:latest"}, "a tag that stays"),
        ({"grpc_port": 80}, "grpc_port 80"),
        ({"flags": {"max_message_mib": 2048}}, "max_message_mib 2048"),
        ({"rest_port": 8500}, "two ports"),
        ({"labels": {"": 1}}, "empty label"),
        ({"labels": {"stable": 2}, "versions": {"specific": [1]}}, "labels.stable 2"),
        ({"resources": {"cpus": 0}}, "cpus 0"),
        ({"resources": {"memory_gib": 0}}, "memory_gib 0"),
        ({"resources": {"replicas": 0}}, "replicas 0"),
        ({"batching": {"max_batch_size": 0}}, "max_batch_size 0"),
        ({"batching": {"batch_timeout_micros": -1}}, "batch_timeout_micros -1"),
        ({"batching": {"allowed_batch_sizes": [8, 4, 64]}}, "rising sizes"),
        ({"batching": {"allowed_batch_sizes": [8, 32]}}, "max_batch_size \\(64\\)"),
        ({"flags": {"rest_api_timeout_ms": 0}}, "rest_api_timeout_ms 0"),
        ({"flags": {"poll": 1}}, "unknown key"),
    ],
)
def test_a_bad_setting_is_refused_by_name(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        settings(**values)


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 5)), (8, (1, 2, 4, 8))]
)
def test_batch_sizes_are_powers_of_two_up_to_the_largest(
    largest: int, sizes: tuple[int, ...]
) -> None:
    assert BatchingFileConfig(max_batch_size=largest).sizes == sizes


def test_an_image_by_digest_is_pinned() -> None:
    image = "registry.example.org:5000/serving@sha256:" + "0" * 64

    assert DeployConfig(image=image, versions=VersionPolicy(latest=1)).image == image
