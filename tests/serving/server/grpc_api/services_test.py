"""Metadata, status, reload and health, driven with the stubs of tensorflow-serving-api."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)

from serving.server.grpc_api.health import HealthCheckRequest, HealthCheckResponse
from serving.server.signature import CLASSIFY_METHOD
from tests.serving.server.grpc_api.refusals import refused
from tests.serving.servers import Running


def test_metadata_holds_the_signatures_as_they_were_exported(server: Running) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tiny"

    response = server.prediction.GetModelMetadata(request, timeout=20)

    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 1
    mixed = signatures.signature_def["mixed"]
    assert mixed.inputs["ids"].dtype == tf.int64.as_datatype_enum
    assert signatures.signature_def["classify"].method_name == CLASSIFY_METHOD


@pytest.mark.parametrize(
    ("fields", "model", "code", "word"),
    [
        ([], "tiny", "INVALID_ARGUMENT", "metadata_field"),
        (["weights"], "tiny", "INVALID_ARGUMENT", "weights"),
        (["signature_def"], "other", "NOT_FOUND", "other"),
        (["signature_def"], None, "INVALID_ARGUMENT", "ModelSpec"),
    ],
)
def test_metadata_refuses(
    server: Running, fields: list[str], model: str | None, code: str, word: str
) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if model is not None:
        request.model_spec.name = model

    found, text = refused(server.prediction.GetModelMetadata, request)

    assert found == code
    assert word in text


def status_request(
    model: str | None, version: int | None = None
) -> get_model_status_pb2.GetModelStatusRequest:
    request = get_model_status_pb2.GetModelStatusRequest()
    if model is not None:
        request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_status_tells_the_state_of_the_versions(server: Running) -> None:
    response = server.models.GetModelStatus(status_request("tiny"), timeout=20)

    (status,) = response.model_version_status
    assert status.version == 1
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert status.status.error_code == 0


@pytest.mark.parametrize(
    ("model", "version", "code", "word"),
    [
        (None, None, "INVALID_ARGUMENT", "ModelSpec"),
        ("other", None, "NOT_FOUND", "other"),
        ("tiny", 7, "NOT_FOUND", "version 7"),
    ],
)
def test_status_refuses(
    server: Running, model: str | None, version: int | None, code: str, word: str
) -> None:
    found, text = refused(server.models.GetModelStatus, status_request(model, version))

    assert found == code
    assert word in text


@pytest.mark.parametrize(
    ("model", "path", "word"),
    [
        ("tiny", "relative/path", "absolute path"),
        ("tiny", "gs://bucket/tiny", "local file system"),
        ("a/b", "/tmp", "a/b"),
    ],
)
def test_a_configuration_that_cannot_be_served_changes_nothing(
    server: Running, model: str, path: str, word: str
) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name=model, base_path=path)

    code, text = refused(server.models.HandleReloadConfigRequest, request)

    assert code == "INVALID_ARGUMENT"
    assert word in text
    assert server.predict({"x": [1.0]})["y"] == [2.0]


def test_an_empty_configuration_is_refused(server: Running) -> None:
    request = model_management_pb2.ReloadConfigRequest()

    code, text = refused(server.models.HandleReloadConfigRequest, request)

    assert code == "INVALID_ARGUMENT"
    assert "ModelConfigList" in text


@pytest.mark.parametrize(
    ("service", "status"),
    [("", 1), ("tiny", 1), ("tensorflow.serving.PredictionService", 1)],
)
def test_health_says_serving(server: Running, service: str, status: int) -> None:
    check = server.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )

    assert check(HealthCheckRequest(service=service), timeout=20).status == status


def test_health_of_an_unknown_service_is_not_found(server: Running) -> None:
    check = server.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )

    code, text = refused(check, HealthCheckRequest(service="other"))

    assert code == "NOT_FOUND"
    assert "other" in text


def test_watching_health_gives_the_state_at_once(server: Running) -> None:
    watch = server.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    call = watch(HealthCheckRequest(service=""), timeout=20)

    assert next(iter(call)).status == 1
    call.cancel()
