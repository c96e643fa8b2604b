"""A server in the test's own process, called over its real ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from schemas.loading import build
from serving.server.config import ModelSource, ServerConfig
from serving.server.server import Ports, Server

READY_SECONDS = 60


class Running:
    """A running server and stubs to it."""

    def __init__(self, server: Server, ports: Ports, channel: grpc.Channel):
        self.server = server
        self.ports = ports
        self.channel = channel
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(
        self, inputs: dict[str, Any], signature: str = "", timeout: float = 20, **spec: Any
    ) -> dict[str, np.ndarray]:
        """Calls Predict over gRPC; returns arrays."""
        response = self.prediction.Predict(
            predict_request(inputs, signature, **spec), timeout=timeout
        )
        return {key: tf.make_ndarray(value) for key, value in response.outputs.items()}

    def rest(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> tuple[int, Any]:
        """Calls REST; returns the status and the body, read as JSON where it is JSON."""
        connection: http.client.HTTPConnection
        if tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.ports.rest, timeout=30)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.ports.rest, timeout=30, context=tls
            )
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, body=data, headers=headers or {})
            answer = connection.getresponse()
            text = answer.read()
        if answer.headers.get_content_type() == "application/json":
            return answer.status, json.loads(text)
        return answer.status, text.decode("utf-8")


def predict_request(
    inputs: dict[str, Any],
    signature: str = "",
    *,
    model: str = "tiny",
    version: int | None = None,
    label: str | None = None,
) -> predict_pb2.PredictRequest:
    """A Predict request; arrays and lists become tensors."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    return request


@contextlib.contextmanager
def running(
    sources: Sequence[ModelSource] | Path, *, wait: bool = True, **sections: Any
) -> Iterator[Running]:
    """Runs a server on free ports until the end of the block.

    Args:
        sources: the models, or the folder of the versions of one called ``tiny``.
        wait: wait until all models serve.
        sections: sections of the configuration as plain values.
    """
    if isinstance(sources, Path):
        sources = [ModelSource(name="tiny", path=str(sources))]
    values = {
        "listen": {"grpc_port": 0, "rest_port": 0},
        **sections,
        "versions": {
            "poll_seconds": 0.1,
            "retry_seconds": 0.2,
            "warm_without_requests": False,
            **sections.get("versions", {}),
        },
    }
    server = Server(sources, build(ServerConfig, values, where="test"))
    ports = server.start()
    try:
        if wait:
            assert server.manager.wait_until_ready(READY_SECONDS)
        with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
            yield Running(server, ports, channel)
    finally:
        server.stop()
