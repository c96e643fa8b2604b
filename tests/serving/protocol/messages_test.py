"""The messages: light, equal to the installed packages' own, and at peace with TensorFlow."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from serving.protocol import messages

ROOT = Path(__file__).resolve().parents[3]
# Files that tensorflow-serving-api does not ship, or that are cut.
ADDED = {
    "tensorflow_serving/apis/prediction_log.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
}
HEAVY = {"tensorflow", "tensorflow_serving", "keras", "tf_keras", "pyarrow", "pandas"}

BOTH = """
from serving.protocol.messages import PredictRequest
from tensorflow_serving.apis import predict_pb2
"""
ROUND_TRIP = """
ours = PredictRequest()
ours.model_spec.name = "m"
ours.inputs["x"].dtype = 1
ours.inputs["x"].tensor_content = b"abcd"
theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
assert theirs.inputs["x"].tensor_content == b"abcd"
assert PredictRequest.FromString(theirs.SerializeToString()) == ours
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_every_file_is_equal_to_that_of_the_installed_packages() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    # What these depend on is loaded with them.
    for module in (
        "get_model_metadata", "get_model_status", "inference", "model_management", "logging"
    ):  # fmt: skip
        importlib.import_module(f"tensorflow_serving.apis.{module}_pb2")
    importlib.import_module("tensorflow_serving.apis.predict_pb2")
    importlib.import_module("tensorflow.core.protobuf.saved_model_pb2")
    for file in messages.load_descriptors().file:
        if file.name in ADDED:
            continue
        installed = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(file.name).CopyToProto(installed)
        assert file == installed, file.name


def test_logged_requests_are_read_as_by_the_installed_package() -> None:
    prediction_log_pb2 = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    theirs = prediction_log_pb2.PredictionLog()
    for log in (theirs.predict_log, theirs.classify_log, theirs.multi_inference_log):
        log.SetInParent()
        ours = messages.PredictionLog.FromString(theirs.SerializeToString())
        assert ours.WhichOneof("log_type") == theirs.WhichOneof("log_type")
        assert ours.SerializeToString() == theirs.SerializeToString()


def test_the_methods_are_those_of_the_installed_stubs() -> None:
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    class Channel:
        def __init__(self) -> None:
            self.methods: list[str] = []

        def unary_unary(self, method: str, **_: object) -> None:
            self.methods.append(method)

    channel = Channel()
    prediction_service_pb2_grpc.PredictionServiceStub(channel)
    model_service_pb2_grpc.ModelServiceStub(channel)

    assert {
        messages.PREDICT,
        messages.CLASSIFY,
        messages.REGRESS,
        messages.GET_MODEL_METADATA,
        messages.GET_MODEL_STATUS,
    } <= set(channel.methods)


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_it_lives_beside_tensorflow_in_either_order(order: str) -> None:
    lines = BOTH.strip().splitlines()
    if order == "theirs first":
        lines.reverse()

    result = run("\n".join(lines) + ROUND_TRIP)

    assert result.returncode == 0, result.stderr[-2000:]


def test_it_loads_without_a_framework() -> None:
    result = run(
        "import json, sys, serving.protocol.messages; print(json.dumps(sorted(sys.modules)))"
    )

    assert result.returncode == 0, result.stderr
    assert not HEAVY & set(json.loads(result.stdout))


def test_batching_parameters_read_the_form_that_the_server_documents() -> None:
    parsed = text_format.Parse(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } "
        "max_enqueued_batches { value: 1000000 } num_batch_threads { value: 8 } "
        "allowed_batch_sizes: 64 allowed_batch_sizes: 128 pad_variable_length_inputs: true",
        messages.BatchingParameters(),
    )

    assert parsed.max_batch_size.value == 128
    assert list(parsed.allowed_batch_sizes) == [64, 128]
    assert parsed.pad_variable_length_inputs


def test_monitoring_reads_the_form_that_the_server_documents() -> None:
    parsed = text_format.Parse(
        'prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }',
        messages.MonitoringConfig(),
    )

    assert parsed.prometheus_config.path == "/monitoring/prometheus/metrics"
