"""The client against small servers in this process, by gRPC and by REST."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.client import Client
from serving.client_support.config import ClientConfig, RetryConfig
from serving.client_support.errors import ServingError, StatusCode
from serving.client_support.results import ModelTarget, VersionState
from serving.protocol import messages
from serving.protocol.tf_examples import serialize
from tests.serving.fake_model import GRPC, STATUS, respond, serve_status
from tests.serving.fake_servers import (
    grpc_server,
    http_server,
)

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "tensorflow",
    "tensorflow_serving",
    "keras",
    "tf_keras",
    "pyarrow",
    "pandas",
    "apache_beam",
}
QUICK = RetryConfig(first_backoff_seconds=0.01, max_backoff_seconds=0.02)


@pytest.fixture(scope="module", params=["grpc", "rest"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    server = grpc_server(GRPC) if request.param == "grpc" else http_server(respond)
    with server as where:
        yield where


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(ClientConfig(address=address, retry=QUICK)) as opened:
        yield opened


def test_predict_returns_typed_outputs(client: Client) -> None:
    result = client.predict(
        "m", {"a": np.array([1, 2**53 + 1]), "b": np.array([1, 1])}, signature_name="sum"
    )

    assert result.outputs["sum"].dtype == np.int64
    assert result.outputs["sum"].tolist() == [2, 2**53 + 2]
    assert result.outputs["text"].tolist() == [b"2", b"9007199254740994"]
    assert result.answered.signature_name == "sum"
    assert result.answered.version in (3, None)


def test_serialized_examples_arrive_whole(client: Client) -> None:
    examples = [serialize({"x": 0.5}), b"", b"\x00\xff\x00"]

    outputs = client.predict("m", {"examples": examples}).outputs

    expected = np.asarray([len(one) for one in examples], dtype=np.float32) / 7
    assert outputs["score"].dtype == np.float32
    np.testing.assert_array_equal(outputs["score"], expected)


def test_only_the_outputs_asked_for_come_back(client: Client) -> None:
    inputs = {"a": np.array([1]), "b": np.array([1])}

    result = client.predict("m", inputs, signature_name="sum", outputs=["text"])

    assert list(result.outputs) == ["text"]


def test_classify_and_regress_take_examples_and_plain_values(client: Client) -> None:
    examples = [serialize({"x": 0.25}), {"x": 0.75}]

    classified = client.classify("m", examples)

    assert [[one.label for one in row] for row in classified.rows] == [["0", "1"]] * 2
    np.testing.assert_allclose(classified.scores_of("1"), [0.25, 0.75])
    with pytest.raises(ValueError, match="label '2'"):
        classified.scores_of("2")
    np.testing.assert_allclose(client.regress("m", examples).values, [0.5, 1.5])


def test_rank_scores_and_orders_the_candidates(client: Client) -> None:
    result = client.rank(
        "m", users={}, candidates={"item_id": [[1, 3, 2], [7, 9, 9]]}, candidate_count=[3, 1]
    )

    np.testing.assert_allclose(result.scores, np.array([[1, 3, 2], [7, 0, 0]]) / 8)
    assert result.order(0).tolist() == [1, 2, 0]
    assert result.order(1).tolist() == [0]


@pytest.mark.parametrize(
    ("users", "candidates", "count", "text"),
    [
        ({}, {}, None, "at least one input"),
        ({}, {"item_id": [1, 2]}, None, "one shape"),
        ({}, {"item_id": [[1, 2]], "price": [[1.0]]}, None, "one shape"),
        ({"user_id": [1, 2]}, {"item_id": [[1, 2]]}, None, "1 rows are expected"),
        ({"user_id": 1}, {"item_id": [[1, 2]]}, None, "1 rows are expected"),
        ({}, {"item_id": [[1, 2]]}, [3], "0 to 2"),
        ({}, {"item_id": [[1, 2]]}, [-1], "0 to 2"),
        ({}, {"item_id": [[1, 2]]}, [1, 1], "1 whole numbers"),
        ({}, {"item_id": [[1, 2]]}, [1.5], "1 whole numbers"),
    ],
)
def test_a_rank_call_of_the_wrong_shape_is_refused(
    client: Client, users: Any, candidates: Any, count: Any, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        client.rank("m", users, candidates, candidate_count=count)


def test_status_tells_state_and_error(client: Client) -> None:
    status = client.status("m")

    assert status.available == (3,)
    assert [one.version for one in status.versions] == [3, 2]
    assert status.versions[1].state is VersionState.END
    assert status.versions[1].error == "did not load"


def test_metadata_tells_types_and_shapes(client: Client) -> None:
    metadata = client.metadata(ModelTarget(name="m", version=3))

    assert metadata.version == 3
    assert metadata.signature("sum").inputs["a"].dtype == "DT_INT64"
    assert metadata.signature("sum").outputs["text"].shape == (-1,)
    with pytest.raises(ValueError, match=r"signature 'nope': the model 'm' has rank, serving_def"):
        metadata.signature("nope")


def test_an_unknown_model_is_not_found(client: Client) -> None:
    with pytest.raises(ServingError, match="Could not find any versions") as caught:
        client.status("other")
    assert caught.value.code is StatusCode.NOT_FOUND
    assert caught.value.attempts == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda client: client.predict("m", {"a": [[1], [1, 2]]}), "input 'a'"),
        (lambda client: client.predict("m", {"a": [[]]}), "inputs: 'a' holds nothing"),
        (lambda client: client.status("m", deadline_seconds=float("inf")), "deadline_seconds inf"),
        (lambda client: client.predict("m", {}, deadline_seconds=0), "deadline_seconds 0"),
        (lambda client: client.predict("a/b", {}), "model 'a/b'"),
        (lambda client: client.predict("m", [1]), "inputs: .* found a list"),
        (lambda client: client.rank("m", [{"user_id": 7}], {"item_id": [[1]]}), "users: .* a list"),
        (lambda client: client.classify("m", [b"\xff"]), "not a serialized tf.Example"),
        (lambda client: client.regress("m", [{"x": [[1]]}]), "feature 'x'"),
    ],
)
def test_a_bad_argument_is_refused_by_name(
    client: Client, call: Callable[[Client], Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        call(client)


def test_version_and_label_are_in_the_call() -> None:
    paths: list[str] = []

    def note(method: str, path: str, *rest: Any) -> tuple[int, bytes]:
        paths.append(path)
        return 200, json.dumps(STATUS).encode()

    with http_server(note) as where, Client(ClientConfig(address=where)) as client:
        client.status(ModelTarget(name="m", version=4))
        client.status(ModelTarget(name="m", label="stable"))
    assert paths == ["/v1/models/m/versions/4", "/v1/models/m/labels/stable"]

    specs: list[Any] = []

    def keep(data: bytes, context: Any) -> bytes:
        specs.append(messages.GetModelStatusRequest.FromString(data).model_spec)
        return messages.GetModelStatusResponse().SerializeToString()

    with (
        grpc_server({messages.GET_MODEL_STATUS: keep}) as where,
        Client(ClientConfig(address=where)) as client,
    ):
        client.status(ModelTarget(name="m", version=0))
        client.status(ModelTarget(name="m", label="stable"))
    assert specs[0].HasField("version")
    assert specs[0].version.value == 0
    assert specs[1].version_label == "stable"


def test_a_bearer_token_goes_with_each_call() -> None:
    seen: list[str] = []

    def over_http(method: str, path: str, headers: Mapping[str, str], *_: Any) -> tuple[int, bytes]:
        seen.append(headers["authorization"])
        return 200, json.dumps(STATUS).encode()

    def over_grpc(data: bytes, context: Any) -> bytes:
        seen.append(dict(context.invocation_metadata())["authorization"])
        return serve_status(data, context)

    for server in (http_server(over_http), grpc_server({messages.GET_MODEL_STATUS: over_grpc})):
        with (
            server as where,
            Client(ClientConfig(address=where, bearer_token="secret")) as client,
        ):
            client.status("m")
    assert seen == ["Bearer secret"] * 2


def test_rest_keeps_its_connection() -> None:
    ports: list[int] = []

    with (
        http_server(respond, connected=ports.append) as where,
        Client(ClientConfig(address=where)) as client,
    ):
        for _ in range(5):
            client.status("m")
    assert len(ports) == 1


def test_the_client_loads_without_a_framework() -> None:
    code = (
        "import json, sys, serving.client;"
        "from serving.client_support import grpc_transport, rest_transport;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not HEAVY & set(json.loads(result.stdout))
