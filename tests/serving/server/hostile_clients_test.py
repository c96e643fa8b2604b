"""Silence, slowness and nonsense on both ports: each is refused, and the server lives."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from tests.serving.server.bounded import (
    BODY,
    MOST_CALLS,
    PREDICT,
    is_healthy,
    lives,
    until,
)
from tests.serving.servers import Running, predict_request


def exchange(port: int, data: bytes, *, seconds: float = 20.0) -> bytes:
    """Sends bytes and reads until the server closes."""
    received = b""
    # The server may close before all is sent.
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection,
    ):
        connection.sendall(data)
        while part := connection.recv(65536):
            received += part
    return received


def test_a_body_that_stops_half_way_times_out(server: Running) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n".encode()

    answer = exchange(server.ports.rest, head + b'{"instances":')

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body did not arrive" in answer
    lives(server)


def test_a_body_that_is_cut_off_is_no_harm(server: Running) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.ports.rest), timeout=20) as connection:
        connection.sendall(head + b'{"instances":')

    lives(server)


def test_a_silent_connection_is_closed(server: Running) -> None:
    start = time.monotonic()

    assert exchange(server.ports.rest, b"") == b""
    assert exchange(server.ports.rest, b"GET /v1/models/tiny HTT") == b""

    assert time.monotonic() - start < 15
    lives(server)


def test_a_client_that_asks_first_is_told_to_send_its_body(server: Running) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", server.ports.rest), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b'{"predictions":[2.0]}')

    # It need not send what is refused anyway.
    refusal = exchange(server.ports.rest, f"{head}Content-Length: 999999\r\n\r\n".encode())
    assert refusal.startswith(b"HTTP/1.1 413")


_DEEP = b'{"a":' * 1000 + b"1" + b"}" * 1000


@pytest.mark.parametrize(
    ("method", "body", "words"),
    [
        ("predict", b'{"inputs": {"x": [1, ' + _DEEP + b"]}}", ["'x'", "float32"]),
        ("predict", b'{"signature_name": "\\ud800", "inputs": NaN}', ["surrogates"]),
        ("predict", b'{"inputs": {"names": "\\ud800", "ids": NaN}}', ["surrogates"]),
        ("regress", b'{"examples": [{"\\ud800": NaN}]}', ["surrogates"]),
    ],
)
def test_bodies_that_no_message_can_quote_are_refused(
    server: Running, method: str, body: bytes, words: list[str]
) -> None:
    status, answer = server.rest("POST", f"/v1/models/tiny:{method}", body)

    assert status == 400
    assert all(word in answer["error"] for word in words), answer


def test_slow_clients_take_no_thread_from_others(server: Running) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(4 * MOST_CALLS):
            connection = socket.create_connection(("127.0.0.1", server.ports.rest), timeout=20)
            stack.enter_context(contextlib.closing(connection))
            connection.sendall(head)

        lives(server)


def test_grpc_calls_whose_message_does_not_come_take_no_thread_from_others(
    server: Running,
) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(30)
        yield b""

    call = server.channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    calls = [call.future(nothing()) for _ in range(100)]
    try:
        lives(server)
        assert {each.exception(20).code().name for each in calls} <= {
            "CANCELLED",
            "DEADLINE_EXCEEDED",
        }
    finally:
        never.set()
    lives(server)


def test_connections_are_bounded(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(60):
            connection = socket.create_connection(("127.0.0.1", server.ports.rest), timeout=20)
            stack.enter_context(contextlib.closing(connection))
            connections.append(connection)

        with contextlib.suppress(ConnectionError):
            assert connections[-1].recv(1) == b""
        # The first ones are still open.
        connections[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connections[0].recv(1) == b"H"
    until(lambda: is_healthy(server))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_broken_http_is_refused(server: Running, data: bytes, status: bytes) -> None:
    answer = exchange(server.ports.rest, data)

    assert answer.split(b" ")[1] == status
    lives(server)


@pytest.mark.parametrize(("port", "strings"), [("rest", 3000), ("grpc", 2000)])
def test_random_bytes_do_no_harm(server: Running, port: str, strings: int) -> None:
    chance = random.Random(strings)
    where = ("127.0.0.1", getattr(server.ports, port))

    def send(data: bytes) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(where, timeout=20) as connection,
        ):
            connection.sendall(data)

    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [chance.randbytes(chance.randrange(1, 200)) for _ in range(strings)]))
    until(lambda: is_healthy(server))
    lives(server)


@pytest.mark.parametrize("method", ["Predict", "Classify", "Regress", "MultiInference"])
def test_random_messages_are_answered_with_an_error(server: Running, method: str) -> None:
    chance = random.Random(3)
    call = server.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
    valid = predict_request({"x": [1.0, 2.0]}).SerializeToString()
    codes = set()

    for number in range(625):
        if number % 2:
            data = chance.randbytes(chance.randrange(1, 100))
        else:
            # Close to right, so that more than the parser is reached.
            changed = bytearray(valid)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            data = bytes(changed)
        try:
            call(data, timeout=20)
            codes.add("OK")
        except grpc.RpcError as error:
            codes.add(error.code().name)

    assert codes <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
    assert "INVALID_ARGUMENT" in codes
    lives(server)


def test_random_bodies_are_answered_with_an_error(server: Running) -> None:
    chance = random.Random(4)
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.rest, timeout=20)
    statuses = set()

    for number in range(2500):
        if number % 2:
            data = chance.randbytes(chance.randrange(1, 100))
        else:
            changed = bytearray(b'{"signature_name": "mixed", "instances": [1.0, {"b64": "YQ"}]}')
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            data = bytes(changed)
        connection.request("POST", PREDICT, data)
        answer = connection.getresponse()
        statuses.add(answer.status)
        assert list(json.loads(answer.read())) == ["error"]

    connection.close()
    assert statuses == {400}
    lives(server)
