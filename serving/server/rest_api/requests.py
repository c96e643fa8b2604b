"""The REST API's requests: from method, path and body to status, type and body."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from urllib.parse import unquote

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import metrics
from serving.server.calls import Calls
from serving.server.errors import Code, ServingError, invalid
from serving.server.grpc_api.model_service import model_status
from serving.server.inference import SIGNATURE_DEF, Inference
from serving.server.rest_api import bodies as json_api
from serving.server.signature import DEFAULT_SIGNATURE, check_method
from serving.server.versions.manager import Manager
from serving.server.versions.version import call_on, find_signature

METRICS_PATH = "/monitoring/prometheus/metrics"
HEALTH_PATH = "/healthz"
_JSON = "application/json"

_MODEL = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(
    r"/v1/models/(?P<name>[^/:]+)" + _MODEL + r":(?P<method>classify|regress|predict)",
    re.IGNORECASE,
)
_STATUS = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?" + _MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE
)
_ANY = re.compile(r"/v1/.*", re.IGNORECASE)
# Largest number that ModelSpec's version holds.
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent back.

    Attributes:
        status: HTTP status.
        body: the body.
        content_type: its type.
        headers: further headers.
    """

    status: int
    body: bytes
    content_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)


def error_answer(error: ServingError) -> Answer:
    """Returns an error as it is sent."""
    headers = {}
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.code is Code.RESOURCE_EXHAUSTED:
        headers["Retry-After"] = "1"
    return Answer(status=error.http_status, body=json_api.error_body(error), headers=headers)


class RestApi:
    """Answers requests of the REST API."""

    def __init__(
        self,
        manager: Manager,
        inference: Inference,
        calls: Calls,
        measured: metrics.ServingMetrics,
        call_seconds: float,
    ):
        """Makes the API.

        Args:
            manager: holds the models.
            inference: answers inference calls.
            calls: bounds and counts them.
            measured: shown under ``METRICS_PATH``.
            call_seconds: how long a call may take.
        """
        self._manager = manager
        self._inference = inference
        self._calls = calls
        self._metrics = measured
        self._call_seconds = call_seconds

    @staticmethod
    def is_inference(method: str, path: str) -> bool:
        """Whether a request is an inference call, which takes its time."""
        return method == "POST" and _INFERENCE.fullmatch(path) is not None

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answers a request.

        Args:
            method: HTTP method.
            path: path of the URL as it was sent.
            body: the whole body.
        """
        try:
            return self._answer(method, path, body)
        except ServingError as error:
            return error_answer(error)

    def refuse(self, path: str) -> Answer:
        """Answers an inference call that finds no thread to run in.

        Args:
            path: path of the URL as it was sent.
        """
        match = _INFERENCE.fullmatch(path)
        assert match is not None
        error = self._calls.refuse(
            model=unquote(match["name"]), api=match["method"].capitalize(), entrypoint="REST"
        )
        return error_answer(error)

    def health(self, *, stopping: bool) -> Answer:
        """Answers a health check: 200 once every model serves."""
        if self._manager.ready() and not stopping:
            return Answer(status=200, body=b'{"status":"SERVING"}')
        return Answer(status=503, body=b'{"status":"NOT_SERVING"}')

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        if path == METRICS_PATH and method == "GET":
            page = self._metrics.page().encode("utf-8")
            return Answer(status=200, body=page, content_type=metrics.CONTENT_TYPE)
        if not _ANY.fullmatch(path):
            raise ServingError(Code.NOT_FOUND, f"Not found: {path}; the API is under /v1/models")
        match = _INFERENCE.fullmatch(path) if method == "POST" else None
        if match:
            return self._infer(_spec(match), match["method"].lower(), body)
        match = _STATUS.fullmatch(path) if method == "GET" else None
        if match is None:
            raise invalid(f"Malformed request: {method} {path}")
        if not match["name"]:
            raise invalid("Missing model name in request.")
        return self._metadata(_spec(match)) if match["metadata"] else self._status(_spec(match))

    def _infer(self, spec: model_pb2.ModelSpec, method: str, body: bytes) -> Answer:
        deadline = time.monotonic() + self._call_seconds
        work = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        answered = self._calls.run(
            lambda: work[method](spec, body, deadline),
            model=spec.name,
            api=method.capitalize(),
            entrypoint="REST",
            deadline=deadline,
        )
        return Answer(status=200, body=answered)

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_api.parse(body)
        name = json_api.signature_name(document) or DEFAULT_SIGNATURE
        with call_on(self._inference.acquire(spec)) as version:
            signature = find_signature(version, name)
            inputs, row_format = json_api.predict_inputs(document, signature)
            check_method(signature)
            outputs = version.run(signature, signature.complete(inputs), deadline)
        return json_api.predictions(outputs, row_format=row_format)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_api.parse(body)
        request = classification_pb2.ClassificationRequest(
            model_spec=spec, input=json_api.example_input(document, "classify")
        )
        request.model_spec.signature_name = json_api.signature_name(document)
        answered = self._inference.classify(request, deadline)
        return json_api.classification_results(answered.result)

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        document = json_api.parse(body)
        request = regression_pb2.RegressionRequest(
            model_spec=spec, input=json_api.example_input(document, "regress")
        )
        request.model_spec.signature_name = json_api.signature_name(document)
        answered = self._inference.regress(request, deadline)
        return json_api.regression_results(answered.result)

    def _status(self, spec: model_pb2.ModelSpec) -> Answer:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return _message(model_status(self._manager, request))

    def _metadata(self, spec: model_pb2.ModelSpec) -> Answer:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        found = self._inference.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        found.metadata[SIGNATURE_DEF].Unpack(signatures)
        body = {
            "model_spec": _to_dict(found.model_spec),
            "metadata": {SIGNATURE_DEF: _to_dict(signatures)},
        }
        return Answer(status=200, body=json_api.dump_plain(body))


def _spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"] is not None:
        number = int(match["version"]) if len(match["version"]) < 20 else _MAX_VERSION + 1
        if number > _MAX_VERSION:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = number
    elif match["label"] is not None:
        spec.version_label = unquote(match["label"])
    return spec


def _to_dict(message: object) -> dict[str, object]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _message(message: object) -> Answer:
    return Answer(status=200, body=json_api.dump_plain(_to_dict(message)))
