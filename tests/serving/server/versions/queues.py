"""Queues whose model is a function that a test can hold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.config import BatchingConfig
from serving.server.signature import Arrays, Signature
from serving.server.versions.batching import BatchQueue

FOREVER = math.inf


def signature(rank: int = 1, names: tuple[str, ...] = ("x",), rows: bool = True) -> Signature:
    """A signature of float inputs of a rank, with an output ``y``."""
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for target, keys in ((definition.inputs, names), (definition.outputs, ("y",))):
        for key in keys:
            target[key].name = f"{key}:0"
            target[key].dtype = types_pb2.DT_FLOAT
            for axis in range(rank):
                target[key].tensor_shape.dim.add().size = -1 if axis or rows else 1
    return Signature("tested", definition)


class Model:
    """Doubles x; keeps the batches it was given, and waits at a gate if there is one."""

    def __init__(self, *, gate: threading.Event | None = None):
        self.batches: list[np.ndarray] = []
        self.entered = threading.Semaphore(0)
        self._gate = gate

    def __call__(self, inputs: Arrays) -> Arrays:
        self.batches.append(inputs["x"])
        self.entered.release()
        if self._gate is not None:
            assert self._gate.wait(20)
        return {"y": inputs["x"] * 2}


def request(*values: float) -> Arrays:
    return {"x": np.array(values, np.float32)}


def submit(
    pool: futures.Executor, queue: BatchQueue, *values: float, deadline: float = FOREVER
) -> futures.Future[Any]:
    return pool.submit(queue.run, request(*values), deadline)


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def waiting(queue: BatchQueue) -> int:
    return len(queue._waiting)


def gated(
    config: BatchingConfig, pool: futures.Executor, **options: Any
) -> tuple[BatchQueue, Model, threading.Event, futures.Future[Any]]:
    """A queue whose first batch, of the value 0, is held in the model until the gate opens."""
    gate = threading.Event()
    model = Model(gate=gate)
    queue = BatchQueue(signature(**options), model, config)
    first = submit(pool, queue, 0.0)
    assert model.entered.acquire(timeout=20)
    return queue, model, gate, first
