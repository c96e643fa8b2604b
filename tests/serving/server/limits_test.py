"""What the server refuses because it is too much: load, waiting, size; and how it stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.server.admission import Admission
from serving.server.errors import ServingError
from serving.server.metrics import ServingMetrics
from tests.serving.server.bounded import (
    BODY,
    MOST_CALLS,
    PREDICT,
    Hold,
    code_of,
    lives,
    outstanding,
    until,
)
from tests.serving.servers import Running, predict_request, running


def test_calls_above_the_bound_are_shed_at_once(server: Running) -> None:
    with Hold(server) as hold, futures.ThreadPoolExecutor(16) as pool:
        held = [pool.submit(server.predict, {"x": [1.0]}) for _ in range(MOST_CALLS)]
        until(lambda: outstanding(server) == MOST_CALLS)
        start = time.monotonic()

        code, text = code_of(server.prediction.Predict, predict_request({"x": [1.0]}))
        status, answer = server.rest("POST", PREDICT, BODY)

        assert time.monotonic() - start < 10
        assert code == "RESOURCE_EXHAUSTED"
        assert f"{MOST_CALLS} calls" in text
        assert status == 503
        assert f"{MOST_CALLS} calls" in answer["error"]
        # What is no inference is answered all the same.
        assert server.rest("GET", "/v1/models/tiny")[0] == 200
        assert server.rest("GET", "/healthz")[0] == 200
        hold.open()
        assert [each.result(20)["y"].tolist() for each in held] == [[2.0]] * MOST_CALLS
    assert server.server.metrics.shed.value() >= 2
    lives(server)


def test_many_calls_at_once_either_work_or_are_shed(server: Running) -> None:
    def call(_: int) -> str:
        try:
            return str(server.predict({"x": [1.0]})["y"].tolist())
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}"

    with futures.ThreadPoolExecutor(64) as pool:
        found = set(pool.map(call, range(500)))

    assert all(each == "[2.0]" or each.startswith("RESOURCE_EXHAUSTED") for each in found), found
    assert "[2.0]" in found
    lives(server)


def test_rest_calls_beyond_the_threads_are_shed(server: Running) -> None:
    with Hold(server) as hold, futures.ThreadPoolExecutor(16) as pool:
        held = [pool.submit(server.rest, "POST", PREDICT, BODY) for _ in range(MOST_CALLS)]
        until(lambda: outstanding(server) == MOST_CALLS)

        refused = server.server.metrics.requests.value("tiny", "RESOURCE_EXHAUSTED")
        assert server.rest("POST", PREDICT, BODY)[0] == 503
        counted = server.server.metrics.requests.value("tiny", "RESOURCE_EXHAUSTED")
        assert counted == refused + 1
        hold.open()
        assert [each.result(20)[0] for each in held] == [200] * MOST_CALLS


def test_a_deadline_that_passes_ends_the_call(server: Running) -> None:
    with Hold(server) as hold, futures.ThreadPoolExecutor(4) as pool:
        first = pool.submit(server.predict, {"x": [1.0]})
        assert hold.entered.acquire(timeout=20)

        code, _ = code_of(server.prediction.Predict, predict_request({"x": [1.0]}), timeout=0.2)

        assert code == "DEADLINE_EXCEEDED"
        # The place of the expired call is free again though the model still runs.
        until(lambda: outstanding(server) == 1)
        hold.open()
        assert first.result(20)["y"] == [2.0]
        assert hold.calls == 1


def test_a_grpc_call_without_a_deadline_takes_no_longer_than_the_server_allows(
    versions: Path,
) -> None:
    with (
        running(versions, limits={"call_seconds": 0.3}) as server,
        Hold(server) as hold,
        futures.ThreadPoolExecutor(2) as pool,
    ):
        leader = pool.submit(server.predict, {"x": [1.0]})
        assert hold.entered.acquire(timeout=20)

        call = server.prediction.Predict.future(predict_request({"x": [1.0]}))

        assert call.exception(20).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        hold.open()
        assert leader.result(20)["y"] == [2.0]


def test_a_rest_call_takes_no_longer_than_the_server_allows(versions: Path) -> None:
    with (
        running(versions, limits={"call_seconds": 0.3}) as server,
        Hold(server) as hold,
        futures.ThreadPoolExecutor(2) as pool,
    ):
        leader = pool.submit(server.rest, "POST", PREDICT, BODY)
        assert hold.entered.acquire(timeout=20)

        status, answer = server.rest("POST", PREDICT, BODY)

        assert status == 504
        assert "deadline" in answer["error"]
        hold.open()
        assert leader.result(20)[0] == 200


def test_messages_larger_than_the_bound_are_refused(server: Running) -> None:
    large = np.zeros(50_000, np.float32)

    code, text = code_of(server.prediction.Predict, predict_request({"x": large}))
    status, answer = server.rest("POST", PREDICT, b" " * 100_001)

    assert code == "RESOURCE_EXHAUSTED"
    assert "larger" in text
    assert status == 413
    assert "100000" in answer["error"]
    lives(server)


def test_a_chunked_body_is_read_and_bounded(server: Running) -> None:
    def send(chunks: list[bytes]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports.rest, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", PREDICT, iter(chunks), encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    assert send([BODY[:5], BODY[5:]]) == (200, {"predictions": [2.0]})
    assert send([b" " * 60_000] * 2)[0] == 413
    lives(server)


def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(server: Running) -> None:
    import gzip

    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000

    status, answer = server.rest("POST", PREDICT, bomb, headers={"Content-Encoding": "gzip"})

    assert status == 413
    assert "larger" in answer["error"]
    lives(server)


def test_stopping_lets_calls_under_way_end_and_refuses_new_ones(versions: Path) -> None:
    with running(versions) as server, Hold(server) as hold, futures.ThreadPoolExecutor(8) as pool:
        held = pool.submit(server.predict, {"x": [1.0]})
        held_rest = pool.submit(server.rest, "POST", PREDICT, BODY)
        assert hold.entered.acquire(timeout=20)
        until(lambda: outstanding(server) == 2)
        kept = http.client.HTTPConnection("127.0.0.1", server.ports.rest, timeout=20)

        stopped = pool.submit(server.server.stop)
        until(lambda: not server_listens(server))

        assert not stopped.done()
        with pytest.raises(grpc.RpcError):
            server.predict({"x": [1.0]}, timeout=5)
        kept.close()
        hold.open()
        assert held.result(20)["y"] == [2.0]
        assert held_rest.result(20) == (200, {"predictions": [2.0]})
        assert stopped.result(30) is True


def test_stopping_tells_every_caller_that_it_may_call_elsewhere(versions: Path) -> None:
    under_way = threading.Semaphore(0)

    def call(server: Running) -> str:
        # A connection of its own, as clients in processes of their own have.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{server.ports.grpc}", options) as channel:
            predict = PredictionServiceStub(channel).Predict
            while True:
                try:
                    predict(predict_request({"x": [1.0]}), timeout=20)
                except grpc.RpcError as error:
                    return error.code().name
                under_way.release()

    with running(versions) as server, futures.ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(call, server) for _ in range(12)]
        for _ in range(100):
            assert under_way.acquire(timeout=20)

        assert server.server.stop() is True

        assert {each.result(20) for each in calls} == {"UNAVAILABLE"}


def test_callers_that_do_not_leave_keep_nothing_up() -> None:
    admission = Admission(1, ServingMetrics())
    admission.close()
    left = threading.Event()

    def call_again() -> None:
        while not left.is_set():
            with pytest.raises(ServingError), admission.call():
                pass

    with futures.ThreadPoolExecutor(1) as pool:
        caller = pool.submit(call_again)
        start = time.monotonic()
        admission.wait_until_left(30.0, 0.3)
        left.set()
        caller.result(20)

    assert 0.3 <= time.monotonic() - start < 20


def server_listens(server: Running) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.ports.rest), timeout=5).close()
    except OSError:
        return False
    return True


LARGE = {"request_bytes": 4_000_000}


@contextlib.contextmanager
def asked_for_much(server: Running) -> Iterator[socket.socket]:
    """A client whose answer of 7 MB is there, and which has not read any of it."""
    inputs = {"ids": [1], "values": [[1.0]], "names": ["a" * 3_000_000]}
    body = json.dumps({"signature_name": "mixed", "inputs": inputs}).encode()
    with socket.socket() as client:
        # The system itself takes little of the answer.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.ports.rest))
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        until(lambda: server.server.metrics.requests.value("tiny", "OK") == 1)
        yield client


def test_an_answer_that_is_not_taken_keeps_no_connection(versions: Path) -> None:
    with (
        running(versions, limits={"body_seconds": 0.5, **LARGE}) as server,
        asked_for_much(server),
    ):
        protocols = server.server._http._protocols
        assert protocols is not None
        until(lambda: not protocols.connections)
        lives(server)


def test_stopping_lets_an_answer_be_taken(versions: Path) -> None:
    with (
        running(versions, limits=LARGE) as server,
        asked_for_much(server) as client,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        stopped = pool.submit(server.server.stop)
        with pytest.raises(futures.TimeoutError):
            # Longer than aiohttp waits for a handler when it is closed.
            stopped.result(3)

        answer = http.client.HTTPResponse(client)
        answer.begin()
        outputs = json.loads(answer.read())["outputs"]

        assert outputs["name"] == ["a" * 3_000_000]
        assert stopped.result(30) is True
