"""Rows of the conformance table in docs/serving.md that no other file of tests stands for."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_management_pb2

from tests.serving.server.grpc_api.refusals import refused
from tests.serving.servers import Running, predict_request, running
from tests.serving.tiny_models import write_version

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    add_default(write_version(folder, 1, factor=2.0), "mixed", "names", [b"unnamed"])
    return folder


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    with running(versions, limits={"request_bytes": MOST_BYTES}) as found:
        yield found


def add_default(version: Path, signature: str, key: str, value: object) -> None:
    """Gives an input of an exported signature a value for requests that leave it out."""
    file = version / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    definition = saved.meta_graphs[0].signature_def[signature]
    definition.defaults[key].CopyFrom(tf.make_tensor_proto(value))
    file.write_bytes(saved.SerializeToString())


@pytest.mark.parametrize(
    "method",
    [
        "tensorflow.serving.SessionService/SessionRun",
        "tensorflow.serving.PredictionService/PredictStreamed",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
def test_services_that_are_not_offered_are_unimplemented(server: Running, method: str) -> None:
    assert refused(server.channel.unary_unary(f"/{method}"), b"")[0] == "UNIMPLEMENTED"


def test_an_input_with_a_default_may_be_left_out(server: Running) -> None:
    inputs = {"ids": np.array([3]), "values": np.float32([[1.0, 2.0]])}

    assert server.predict(inputs, "mixed")["name"].tolist() == [b"unnamed"]
    given = {**inputs, "names": np.array([b"given"], dtype=object)}
    assert server.predict(given, "mixed")["name"].tolist() == [b"given"]


def test_compressed_messages_are_read_and_bounded(server: Running) -> None:
    call = server.prediction.Predict

    found = call(predict_request({"x": [1.5]}), timeout=20, compression=grpc.Compression.Gzip)

    assert tf.make_ndarray(found.outputs["y"]).tolist() == [3.0]
    bomb = predict_request({"x": np.zeros(MOST_BYTES, np.float32)})
    with pytest.raises(grpc.RpcError) as caught:
        call(bomb, timeout=20, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_huge_batch_is_one_call(server: Running) -> None:
    rows = np.arange(1_000_000, dtype=np.float32)

    np.testing.assert_array_equal(server.predict({"x": rows})["y"], rows * 2)
    status, answer = server.rest("POST", "/v1/models/tiny:predict", {"inputs": [0.5] * 1_000_000})
    assert status == 200
    assert answer == {"outputs": [1.0] * 1_000_000}


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 3.0]])
def test_a_tensor_with_another_number_of_values_than_its_shape(
    server: Running, values: list[float]
) -> None:
    request = predict_request({})
    tensor = request.inputs["x"]
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.tensor_shape.dim.add().size = 2
    tensor.float_val.extend(values)

    code, text = refused(server.prediction.Predict, request)

    assert code == "INVALID_ARGUMENT"
    assert f"'x': shape [2] has 2 values, found {len(values)}" in text


def test_a_log_of_requests_is_not_kept(server: Running, versions: Path) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add(name="tiny", base_path=str(versions))
    model.logging_config.sampling_config.sampling_rate = 1.0
    model.logging_config.log_collector_config.type = "file"

    assert server.models.HandleReloadConfigRequest(request, timeout=60).status.error_code == 0
    assert server.predict({"x": [1.0]})["y"] == [2.0]


def test_answers_are_neither_compressed_nor_marked_for_other_sites(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.rest, timeout=20)
    headers = {"Accept-Encoding": "gzip", "Origin": "http://elsewhere.test"}
    connection.request("POST", "/v1/models/tiny:predict", b'{"instances": [1.0]}', headers)
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (200, b'{"predictions":[2.0]}')
    names = {name.lower() for name in answer.headers}
    assert not {"content-encoding", "access-control-allow-origin"} & names
    connection.close()
