"""Calls to a model server over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.client_support.config import ClientConfig, TlsConfig
from serving.client_support.errors import RETRIED, ServingError, StatusCode
from serving.client_support.results import (
    Answered,
    ClassifyResult,
    ClassScore,
    ModelMetadata,
    ModelStatus,
    ModelTarget,
    PredictResult,
    RegressResult,
)
from serving.client_support.specifications import metadata_of, status_of
from serving.client_support.tls import tls_context
from serving.protocol import messages
from serving.protocol.tensor_codec import decode_tensor, encode_tensor

# A message that is too large stays so: gRPC reports it with the code of a busy server.
_TOO_LARGE = "larger than max"


class GrpcTransport:
    """One channel, shared by all threads; see ``Transport`` of serving/client.py."""

    def __init__(self, config: ClientConfig) -> None:
        self._channel = open_channel(config)
        self._metadata = call_metadata(config)
        self._predict = self._method(messages.PREDICT, messages.PredictResponse)
        self._classify = self._method(messages.CLASSIFY, messages.ClassificationResponse)
        self._regress = self._method(messages.REGRESS, messages.RegressionResponse)
        self._status = self._method(messages.GET_MODEL_STATUS, messages.GetModelStatusResponse)
        self._describe = self._method(
            messages.GET_MODEL_METADATA, messages.GetModelMetadataResponse
        )

    def predict(
        self,
        target: ModelTarget,
        inputs: Mapping[str, Any],
        signature_name: str,
        outputs: Sequence[str],
        timeout: float,
    ) -> PredictResult:
        """Calls Predict."""
        request = predict_request(target, inputs, signature_name, outputs)
        response = self._call(self._predict, request, timeout)
        try:
            decoded = {name: decode_tensor(name, one) for name, one in response.outputs.items()}
        except ValueError as error:
            raise ServingError(
                StatusCode.INTERNAL, f"the answer cannot be read: {error}"
            ) from error
        return PredictResult(outputs=decoded, answered=_answered(response, target, signature_name))

    def classify(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> ClassifyResult:
        """Calls Classify."""
        request = example_request(messages.ClassificationRequest, target, examples, signature_name)
        response = self._call(self._classify, request, timeout)
        rows = tuple(
            tuple(ClassScore(label=one.label, score=one.score) for one in row.classes)
            for row in response.result.classifications
        )
        return ClassifyResult(rows=rows, answered=_answered(response, target, signature_name))

    def regress(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> RegressResult:
        """Calls Regress."""
        request = example_request(messages.RegressionRequest, target, examples, signature_name)
        response = self._call(self._regress, request, timeout)
        values = np.asarray([one.value for one in response.result.regressions], dtype=np.float32)
        return RegressResult(values=values, answered=_answered(response, target, signature_name))

    def status(self, target: ModelTarget, timeout: float) -> ModelStatus:
        """Calls GetModelStatus."""
        request = messages.GetModelStatusRequest()
        set_target(request.model_spec, target)
        return status_of(self._call(self._status, request, timeout))

    def metadata(self, target: ModelTarget, timeout: float) -> ModelMetadata:
        """Calls GetModelMetadata."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        set_target(request.model_spec, target)
        response = self._call(self._describe, request, timeout)
        signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        return metadata_of(response.model_spec, signatures)

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self._channel.close()

    def _method(self, path: str, response: Any) -> Callable[..., Any]:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def _call(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error


def open_channel(config: ClientConfig) -> Any:
    """Opens a channel with the settings of a client.

    Raises:
        OSError: a file of ``tls`` cannot be read.
    """
    options = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Our own retries know the deadline of the whole call.
        ("grpc.enable_retries", 0),
        # gRPC waits a second and more before it connects again, longer than a server restarts.
        # Its min_reconnect_backoff_ms is how long connecting may take; a busy server needs it.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A name of several addresses, such as a headless service, is used in turn.
        ("grpc.lb_policy_name", "round_robin"),
    ]
    if config.is_of_this_machine:
        # A proxy that the environment names would be asked for its own localhost, and be shown
        # the token.
        options.append(("grpc.enable_http_proxy", 0))
    if config.tls is None:
        return grpc.insecure_channel(config.address, options)
    if config.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return grpc.secure_channel(config.address, _credentials(config.tls), options)


def call_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    """Returns what is sent along with each call."""
    if config.bearer_token is None:
        return ()
    return (("authorization", f"Bearer {config.bearer_token}"),)


def predict_request(
    target: ModelTarget, inputs: Mapping[str, Any], signature_name: str, outputs: Sequence[str] = ()
) -> Any:
    """Builds a ``PredictRequest``.

    Raises:
        ValueError: an input cannot be sent; names it.
    """
    request = messages.PredictRequest(output_filter=outputs)
    set_target(request.model_spec, target)
    request.model_spec.signature_name = signature_name
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(encode_tensor(name, values))
    return request


def example_request(
    kind: Any, target: ModelTarget, examples: Sequence[bytes], signature_name: str
) -> Any:
    """Builds a ``ClassificationRequest`` or ``RegressionRequest``."""
    request = kind()
    set_target(request.model_spec, target)
    request.model_spec.signature_name = signature_name
    added = request.input.example_list.examples
    for serialized in examples:
        added.add().ParseFromString(serialized)
    return request


def set_target(spec: Any, target: ModelTarget) -> None:
    """Fills the name and version of a ``ModelSpec``."""
    spec.name = target.name
    if target.version is not None:
        spec.version.value = target.version
    if target.label is not None:
        spec.version_label = target.label


def code_of(error: Any) -> StatusCode:
    """Returns the code of a failed call."""
    code = error.code()
    return StatusCode[code.name] if code is not None else StatusCode.UNKNOWN


def error_of(error: Any) -> ServingError:
    """Returns our error for one of gRPC."""
    code, details = code_of(error), error.details() or "no details"
    return ServingError(code, details, retriable=code in RETRIED and _TOO_LARGE not in details)


def _answered(response: Any, target: ModelTarget, signature_name: str) -> Answered:
    spec = response.model_spec
    return Answered(
        model=spec.name or target.name,
        version=spec.version.value if spec.HasField("version") else None,
        signature_name=spec.signature_name or signature_name,
    )


def _credentials(tls: TlsConfig) -> Any:
    # gRPC says nothing of a file that it cannot use, but that no server can be reached.
    tls_context(tls)

    def read(path: str | None) -> bytes | None:
        return Path(path).read_bytes() if path is not None else None

    return grpc.ssl_channel_credentials(
        root_certificates=read(tls.ca_file),
        private_key=read(tls.key_file),
        certificate_chain=read(tls.cert_file),
    )
