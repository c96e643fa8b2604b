"""The client against servers that are busy, slow, broken or not there."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import grpc
import numpy as np
import pytest

from serving.client import Client
from serving.client_support.config import ClientConfig, RetryConfig
from serving.client_support.errors import ServingError, StatusCode
from serving.protocol import messages
from serving.protocol.tf_examples import serialize
from tests.serving.fake_model import GRPC, METADATA, STATUS, respond, serve_status
from tests.serving.fake_servers import (
    Behaviour,
    Respond,
    grpc_server,
    http_server,
    late_proxy,
    trickling_server,
)

QUICK = RetryConfig(first_backoff_seconds=0.01, max_backoff_seconds=0.02)


def flaky(failures: int, code: grpc.StatusCode) -> tuple[Behaviour, list[float]]:
    calls: list[float] = []

    def behaviour(data: bytes, context: Any) -> bytes:
        calls.append(context.time_remaining())
        if len(calls) <= failures:
            context.abort(code, "busy")
        return serve_status(data, context)

    return behaviour, calls


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_busy_server_is_asked_again(code: grpc.StatusCode) -> None:
    behaviour, calls = flaky(2, code)
    with (
        grpc_server({messages.GET_MODEL_STATUS: behaviour}) as where,
        Client(ClientConfig(address=where, retry=QUICK)) as client,
    ):
        assert client.status("m", deadline_seconds=40).available == (3,)

    assert len(calls) == 3
    # No attempt has more than the one deadline of them all; gRPC rounds it on its way, and a busy
    # machine takes some of it.
    assert all(20 < left < 41 for left in calls)


def test_a_server_that_is_slow_to_greet_is_waited_for() -> None:
    with (
        grpc_server({messages.GET_MODEL_STATUS: serve_status}) as where,
        late_proxy(where, 0.6) as late,
        Client(ClientConfig(address=late, retry=RetryConfig(attempts=1))) as client,
    ):
        assert client.status("m", deadline_seconds=20).available == (3,)


def test_a_server_of_this_machine_is_not_asked_for_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with grpc_server({messages.GET_MODEL_STATUS: serve_status}) as where:
        port = where.rpartition(":")[2]
        for address in (where, f"localhost:{port}"):
            config = ClientConfig(
                address=address, bearer_token="secret", retry=RetryConfig(attempts=1)
            )
            with Client(config) as client:
                assert client.status("m", deadline_seconds=20).available == (3,)


def test_a_refusal_is_not_tried_again() -> None:
    behaviour, calls = flaky(1, grpc.StatusCode.INVALID_ARGUMENT)
    with (
        grpc_server({messages.GET_MODEL_STATUS: behaviour}) as where,
        Client(ClientConfig(address=where, retry=QUICK)) as client,
        pytest.raises(ServingError, match="INVALID_ARGUMENT: busy"),
    ):
        client.status("m")
    assert len(calls) == 1


def test_a_slow_grpc_server_is_left_at_the_deadline() -> None:
    calls: list[int] = []

    def slow(data: bytes, context: Any) -> bytes:
        calls.append(1)
        time.sleep(1.0)
        return b""

    began = time.monotonic()
    with grpc_server({messages.GET_MODEL_STATUS: slow}) as where:
        with Client(ClientConfig(address=where)) as client, pytest.raises(ServingError) as caught:
            client.status("m", deadline_seconds=0.2)
        took = time.monotonic() - began

    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert took < 0.9
    assert len(calls) == 1


def test_a_slow_http_server_is_left_at_the_deadline() -> None:
    def slow(*_: Any) -> tuple[int, bytes]:
        time.sleep(1.0)
        return 200, b"{}"

    with http_server(slow) as where, Client(ClientConfig(address=where)) as client:
        began = time.monotonic()
        with pytest.raises(ServingError) as caught:
            client.status("m", deadline_seconds=0.2)
        took = time.monotonic() - began

    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert took < 0.9


OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 1000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "parts", [[SIZED, *[b" "] * 200], [CHUNKED, *[b"1\r\n \r\n"] * 200]], ids=["sized", "chunked"]
)
def test_a_trickling_answer_is_left_at_the_deadline(parts: list[bytes]) -> None:
    with (
        trickling_server(parts, 0.05) as where,
        Client(ClientConfig(address=where)) as client,
    ):
        began = time.monotonic()
        with pytest.raises(ServingError) as caught:
            client.status("m", deadline_seconds=0.3)
        took = time.monotonic() - began

    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    # The answer goes on for ten seconds.
    assert took < 5


@pytest.mark.parametrize(
    "parts", [[SIZED, b"{"], [b"\x00\xff" * 2000 + b"\r\n"], [b""]], ids=["cut", "garbage", "none"]
)
def test_an_answer_that_breaks_off_is_asked_for_again(parts: list[bytes]) -> None:
    with (
        trickling_server(parts, 0.0) as where,
        Client(ClientConfig(address=where, retry=QUICK)) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.status("m", deadline_seconds=30)
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert caught.value.attempts == QUICK.attempts
    assert len(str(caught.value)) < 400


def test_an_answer_in_chunks_is_put_together() -> None:
    body = json.dumps(STATUS).encode()
    chunks = [
        b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7])
        for at in range(0, len(body), 7)
    ]
    with (
        trickling_server([CHUNKED, *chunks, b"0\r\n\r\n"], 0.0) as where,
        Client(ClientConfig(address=where)) as client,
    ):
        assert client.status("m").available == (3,)


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_is_not_there_is_unavailable(scheme: str) -> None:
    with (
        Client(ClientConfig(address=f"{scheme}127.0.0.1:1", retry=QUICK)) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.status("m", deadline_seconds=5)
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert caught.value.attempts == QUICK.attempts


def test_a_message_that_is_too_large_is_not_sent_again() -> None:
    options = (("grpc.max_receive_message_length", 1000),)
    with (
        grpc_server(GRPC, options=options) as where,
        Client(ClientConfig(address=where, retry=QUICK)) as client,
        pytest.raises(ServingError, match="larger than max") as caught,
    ):
        client.predict("m", {"examples": [b"x" * 5000]})
    assert caught.value.attempts == 1


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_an_answer_that_is_too_large_is_refused(protocol: str) -> None:
    server = grpc_server(GRPC) if protocol == "grpc" else http_server(respond)
    with (
        server as where,
        Client(ClientConfig(address=where, retry=QUICK, max_message_bytes=20)) as client,
        pytest.raises(ServingError, match="larger than max") as caught,
    ):
        client.status("m")
    assert caught.value.attempts == 1


def failing(status: int, body: bytes) -> Respond:
    return lambda *_: (status, body)


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (400, b'{"error": "no such signature"}', StatusCode.INVALID_ARGUMENT, "no such signature"),
        (404, b"<html>nothing</html>", StatusCode.NOT_FOUND, "HTTP 404: <html>nothing"),
        (500, b"", StatusCode.INTERNAL, "HTTP 500"),
        (200, b"{", StatusCode.INTERNAL, "not JSON"),
        (200, b"[]", StatusCode.INTERNAL, "not a JSON object"),
        (200, b'{"model_version_status": 3}', StatusCode.INTERNAL, "unreadable answer"),
        (302, b"", StatusCode.INTERNAL, "HTTP 302"),
    ],
)
def test_a_failed_rest_call_says_what_the_server_said(
    status: int, body: bytes, code: StatusCode, text: str
) -> None:
    with (
        http_server(failing(status, body)) as where,
        Client(ClientConfig(address=where, retry=QUICK)) as client,
        pytest.raises(ServingError, match=text) as caught,
    ):
        client.status("m")
    assert caught.value.code is code
    assert caught.value.attempts == 1


@pytest.mark.parametrize(
    "answer",
    [{}, {"outputs": [["text"]]}, {"outputs": {"other": [1]}}, {"outputs": {"score": ["a"]}}],
)
def test_a_predict_answer_of_another_form_is_an_error(answer: dict[str, Any]) -> None:
    def other(method: str, path: str, *_: Any) -> tuple[int, bytes]:
        return 200, json.dumps(METADATA if method == "GET" else answer).encode()

    with (
        http_server(other) as where,
        Client(ClientConfig(address=where)) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.predict("m", {"examples": [b""]})
    assert caught.value.code is StatusCode.INTERNAL


def test_rest_learns_of_the_signatures_of_a_version_that_came_since() -> None:
    old = copy.deepcopy(METADATA)
    del old["metadata"]["signature_def"]["signature_def"]["sum"]
    asked = []

    def serve(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/metadata"):
            asked.append(path)
            return 200, json.dumps(METADATA if len(asked) > 1 else old).encode()
        return respond(method, path, headers, body)

    with http_server(serve) as where, Client(ClientConfig(address=where)) as client:
        client.predict("m", {"examples": [serialize({"x": 1.0})]})
        inputs = {"a": np.array([1, 2]), "b": np.array([3, 4])}
        for _ in range(2):
            found = client.predict("m", inputs, signature_name="sum").outputs
            assert found["sum"].tolist() == [4, 6]

    assert len(asked) == 2


def test_a_grpc_answer_that_is_malformed_is_an_error() -> None:
    response = messages.PredictResponse()
    response.outputs["score"].dtype = 1
    response.outputs["score"].tensor_content = b"123"
    with (
        grpc_server({messages.PREDICT: lambda *_: response.SerializeToString()}) as where,
        Client(ClientConfig(address=where)) as client,
        pytest.raises(ServingError, match="output 'score'") as caught,
    ):
        client.predict("m", {})
    assert caught.value.code is StatusCode.INTERNAL
