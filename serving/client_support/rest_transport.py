"""Calls to a model server over REST."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import urllib3
from google.protobuf import json_format

from serving.client_support.config import ClientConfig
from serving.client_support.errors import ServingError, StatusCode, code_of_http
from serving.client_support.rest_bodies import (
    classes_of,
    error_text,
    example_body,
    outputs_of,
    predict_body,
)
from serving.client_support.results import (
    Answered,
    ClassifyResult,
    ModelMetadata,
    ModelStatus,
    ModelTarget,
    PredictResult,
    RegressResult,
    Signature,
)
from serving.client_support.specifications import metadata_of, status_of
from serving.client_support.tls import tls_context
from serving.protocol import messages

_CHUNK = 1 << 16
_LONGEST_ERROR = 300


class RestTransport:
    """Kept-alive connections, shared by all threads; see ``Transport`` of serving/client.py.

    The answers of the REST API name neither types nor a single output, so the metadata of a
    model is asked for before its first Predict, and again when an answer does not fit it.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._pool = open_pool(config)
        self._base = config.address.rstrip("/")
        self._metadata: dict[ModelTarget, ModelMetadata] = {}
        self._lock = threading.Lock()

    def predict(
        self,
        target: ModelTarget,
        inputs: Mapping[str, Any],
        signature_name: str,
        outputs: Sequence[str],
        timeout: float,
    ) -> PredictResult:
        """Posts to ``:predict``, with columns."""
        end = time.monotonic() + timeout
        body = predict_body(inputs, signature_name)
        known = self._known_metadata(target, timeout).signatures.get(signature_name)
        answer = self._call(
            "POST", f"{model_path(target)}:predict", end - time.monotonic(), body=body
        )
        if "outputs" not in answer:
            raise ServingError(
                StatusCode.INTERNAL, f"the answer to signature {signature_name!r} has no outputs"
            )
        try:
            decoded = _outputs(answer, known)
        except (ValueError, TypeError):
            # A version that came since may have other signatures and outputs.
            with self._lock:
                self._metadata.pop(target, None)
            left = end - time.monotonic()
            known = self._known_metadata(target, left).signatures.get(signature_name)
            decoded = self._decode(lambda: _outputs(answer, known))
        if outputs:
            missing = [name for name in outputs if name not in decoded]
            if missing:
                raise ServingError(StatusCode.INVALID_ARGUMENT, f"no output named {missing[0]!r}")
            decoded = {name: decoded[name] for name in outputs}
        return PredictResult(outputs=decoded, answered=_answered(target, signature_name))

    def classify(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> ClassifyResult:
        """Posts to ``:classify``."""
        results = self._examples("classify", target, examples, signature_name, timeout)
        rows = self._decode(lambda: classes_of(results))
        return ClassifyResult(rows=rows, answered=_answered(target, signature_name))

    def regress(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> RegressResult:
        """Posts to ``:regress``."""
        results = self._examples("regress", target, examples, signature_name, timeout)
        values = self._decode(lambda: np.asarray(results, dtype=np.float32))
        return RegressResult(values=values, answered=_answered(target, signature_name))

    def status(self, target: ModelTarget, timeout: float) -> ModelStatus:
        """Gets the status of a model."""
        answer = self._call("GET", model_path(target), timeout)
        return status_of(self._parse(answer, messages.GetModelStatusResponse()))

    def metadata(self, target: ModelTarget, timeout: float) -> ModelMetadata:
        """Gets the signatures of a model."""
        answer = self._call("GET", f"{model_path(target)}/metadata", timeout)
        spec = messages.GetModelMetadataResponse().model_spec
        self._parse(answer.get("model_spec", {}), spec)
        described = answer.get("metadata", {}).get("signature_def", {})
        signatures = self._parse(described, messages.SignatureDefMap())
        return metadata_of(spec, signatures)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def _known_metadata(self, target: ModelTarget, timeout: float) -> ModelMetadata:
        with self._lock:
            known = self._metadata.get(target)
        if known is None:
            known = self.metadata(target, timeout)
            with self._lock:
                self._metadata[target] = known
        return known

    def _examples(
        self,
        verb: str,
        target: ModelTarget,
        examples: Sequence[bytes],
        signature_name: str,
        timeout: float,
    ) -> Any:
        body = example_body(examples, signature_name)
        answer = self._call("POST", f"{model_path(target)}:{verb}", timeout, body=body)
        # The documentation says "result" in one place and "results" in another.
        results = answer.get("results", answer.get("result"))
        if not isinstance(results, list):
            raise ServingError(StatusCode.INTERNAL, f"the answer to {verb} has no results")
        return results

    def _call(
        self, method: str, path: str, timeout: float, *, body: bytes | None = None
    ) -> dict[str, Any]:
        status, content = exchange(
            self._pool,
            method,
            self._base + path,
            timeout,
            body=body,
            largest=self._config.max_message_bytes,
        )
        if code_of_http(status) is not StatusCode.OK:
            raise ServingError(code_of_http(status), error_text(status, content))
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise ServingError(StatusCode.INTERNAL, f"the answer is not JSON: {error}") from error
        if not isinstance(answer, dict):
            raise ServingError(StatusCode.INTERNAL, "the answer is not a JSON object")
        return answer

    @staticmethod
    def _parse(answer: Any, message: Any) -> Any:
        try:
            return json_format.ParseDict(answer, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ServingError(StatusCode.INTERNAL, f"unreadable answer: {error}") from error

    @staticmethod
    def _decode(decode: Any) -> Any:
        try:
            return decode()
        except (ValueError, TypeError) as error:
            raise ServingError(StatusCode.INTERNAL, f"unreadable answer: {error}") from error


def open_pool(config: ClientConfig) -> urllib3.PoolManager:
    """Opens a pool of kept-alive connections with the settings of a client.

    Raises:
        OSError: a file of ``tls`` cannot be read.
    """
    headers = {"content-type": "application/json"}
    if config.bearer_token is not None:
        headers["authorization"] = f"Bearer {config.bearer_token}"
    settings: dict[str, Any] = {}
    if config.address.startswith("https://"):
        tls = config.tls
        settings["ssl_context"] = tls_context(tls)
        if tls is not None and tls.server_name is not None:
            settings["server_hostname"] = tls.server_name
    return urllib3.PoolManager(
        maxsize=config.connections, block=False, retries=False, headers=headers, **settings
    )


def exchange(
    pool: urllib3.PoolManager,
    method: str,
    url: str,
    timeout: float,
    *,
    body: bytes | None = None,
    largest: int,
) -> tuple[int, bytes]:
    """Sends one request and reads its answer.

    The body is read within the time however slowly it comes; a server that trickles the head of
    its answer line by line can hold the call for longer.

    Args:
        pool: connections.
        method: verb of HTTP.
        url: where to.
        timeout: seconds for sending and reading.
        body: what to send.
        largest: bytes above which an answer is refused.

    Returns:
        The HTTP status and the body.

    Raises:
        ServingError: there was no answer in time, or none at all.
    """
    end = time.monotonic() + timeout
    try:
        response = pool.request(
            method,
            url,
            body=body,
            timeout=urllib3.Timeout(total=max(timeout, 1e-3)),
            redirect=False,
            preload_content=False,
        )
        try:
            return response.status, _read(response, end, timeout, largest)
        except BaseException:
            # What is left of the answer would be taken for that to the next request.
            response.close()
            raise
        finally:
            response.release_conn()
    except urllib3.exceptions.NewConnectionError as error:
        # A refused connection counts as a timeout to urllib3.
        raise ServingError(StatusCode.UNAVAILABLE, str(error)) from error
    except urllib3.exceptions.TimeoutError as error:
        raise ServingError(
            StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:.3g} s"
        ) from error
    except urllib3.exceptions.SSLError as error:
        raise ServingError(StatusCode.UNAVAILABLE, f"TLS: {error}", retriable=False) from error
    except urllib3.exceptions.HTTPError as error:
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        raise ServingError(StatusCode.UNAVAILABLE, text) from error


def model_path(target: ModelTarget) -> str:
    """Returns the path of a model, or of one version of it."""
    path = f"/v1/models/{target.name}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return f"{path}/labels/{target.label}" if target.label is not None else path


def _read(response: Any, end: float, timeout: float, largest: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    # read1 comes back with what has arrived, so a server that trickles does not hold the call.
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > largest:
            raise ServingError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the answer is larger than max_message_bytes ({largest})",
                retriable=False,
            )
        if time.monotonic() > end:
            raise ServingError(
                StatusCode.DEADLINE_EXCEEDED, f"no complete answer within {timeout:.3g} s"
            )
    return b"".join(parts)


def _outputs(answer: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    if signature is None:
        raise ValueError("the model's metadata does not have the signature")
    return outputs_of(answer["outputs"], signature)


def _answered(target: ModelTarget, signature_name: str) -> Answered:
    return Answered(model=target.name, version=None, signature_name=signature_name)
