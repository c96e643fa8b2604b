"""Calls of the canary, by the API that each signature is for."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from serving.canary.requests import CanaryRequest
from serving.canary.server import MODEL_NAME
from serving.client import Client
from serving.client_support.config import ClientConfig, RetryConfig
from serving.scoring.score import CLASSIFY_METHOD, REGRESS_METHOD

_CALL_SECONDS = 60.0

Answers = Mapping[str, np.ndarray]


def open_client(address: str) -> Client:
    """Returns a client that makes each call once."""
    # A call that has to be made again is not hidden.
    retry = RetryConfig(attempts=1)
    return Client(ClientConfig(address=address, deadline_seconds=_CALL_SECONDS, retry=retry))


def timed_call(client: Client, request: CanaryRequest) -> float:
    """Returns how long a call takes, in seconds."""
    start = time.perf_counter()
    call(client, request)
    return time.perf_counter() - start


def call(client: Client, request: CanaryRequest, shaped: Answers | None = None) -> Answers:
    """Calls a signature by the API that it is for; outputs as the graph has them.

    Args:
        client: of a server.
        request: the call.
        shaped: outputs of the graph, whose shapes Classify and Regress do not keep.

    Raises:
        ServingError: the server refused, or did not answer in time.
        ValueError: the request cannot be sent, or the answer not be read.
    """
    name = request.signature
    if request.method == CLASSIFY_METHOD:
        rows = client.classify(MODEL_NAME, request.examples, signature_name=name).rows
        found = {
            "classes": np.array([[one.label.encode() for one in row] for row in rows], object),
            "scores": np.array([[one.score for one in row] for row in rows], np.float32),
        }
        return {key: found[key] for key in found if shaped is None or key in shaped}
    if request.method == REGRESS_METHOD:
        values = client.regress(MODEL_NAME, request.examples, signature_name=name).values
        if shaped is None or "outputs" not in shaped or shaped["outputs"].size != values.size:
            return {"outputs": values}
        return {"outputs": values.reshape(shaped["outputs"].shape)}
    return client.predict(MODEL_NAME, request.inputs, signature_name=name).outputs
