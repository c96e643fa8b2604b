"""A server with small bounds, calls held in its model, and the question whether it lives."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from serving.server.signature import Arrays, Signature
from tests.serving.servers import Running

PREDICT = "/v1/models/tiny:predict"
BODY = json.dumps({"instances": [1.0]}).encode()
MOST_CALLS = 4

LIMITS = {
    "concurrent_calls": MOST_CALLS,
    "request_bytes": 100_000,
    "header_seconds": 0.5,
    "body_seconds": 0.5,
    "call_seconds": 20,
    "connections": 40,
}


class Hold:
    """Holds every call in the model until it is opened."""

    def __init__(self, server: Running):
        self._model = server.server.manager.acquire("tiny")
        self._model.release()
        self._run = self._model.model.run
        self._gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def __enter__(self) -> Hold:
        def run(signature: Signature, inputs: Arrays) -> Arrays:
            self.calls += 1
            self.entered.release()
            assert self._gate.wait(30)
            return self._run(signature, inputs)

        self._model.model.run = run  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._model.model.run = self._run  # type: ignore[method-assign]

    def open(self) -> None:
        self._gate.set()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def outstanding(server: Running) -> float:
    return server.server.metrics.outstanding.value()


def is_healthy(server: Running) -> bool:
    """Whether REST answers; not while earlier connections still take all the room."""
    try:
        return bool(server.rest("GET", "/healthz")[0] == 200)
    except OSError:
        return False


def lives(server: Running) -> None:
    """Checks that both ports answer."""
    assert server.predict({"x": [3.0]})["y"] == [6.0]
    assert server.rest("POST", PREDICT, BODY) == (200, {"predictions": [2.0]})


def code_of(call: Any, *arguments: Any, timeout: float = 20) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=timeout)
    return caught.value.code().name, caught.value.details()
