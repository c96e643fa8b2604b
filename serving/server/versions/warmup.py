"""Runs a new version before it serves, so that no caller pays for TensorFlow's first calls."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.server import examples
from serving.server.errors import Code, ServingError
from serving.server.metrics import ServingMetrics
from serving.server.signature import DEFAULT_SIGNATURE, METHODS, Signature, TensorSpec
from serving.server.tensors import to_array
from serving.server.versions.failures import LoadError
from serving.server.versions.model import Model

_LOG = logging.getLogger(__name__)

REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
# TensorFlow Serving's bound.
MAX_RECORDS = 1000
_MAX_BYTES = 1 << 30


def warm(model: Model, path: Path, metrics: ServingMetrics, *, make_up: bool) -> None:
    """Runs the warm-up requests that a version brings along.

    Args:
        model: the loaded model.
        path: its folder.
        metrics: where the time is counted.
        make_up: run each signature on made-up inputs where there are no requests.

    Raises:
        LoadError: a request cannot be read or fails.
    """
    requests = path / REQUESTS
    if not requests.is_file():
        if make_up:
            _make_up(model)
        return
    start = time.monotonic()
    status = Code.OK
    try:
        count = _replay(model, requests)
        _LOG.debug("ran %d warm-up requests of %s", count, path)
    except LoadError as error:
        status = error.code
        raise
    finally:
        metrics.warmup(str(path), status.name, time.monotonic() - start)


def _replay(model: Model, requests: Path) -> int:
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(requests)).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise LoadError(
                    Code.INVALID_ARGUMENT,
                    f"{requests}: at most {MAX_RECORDS} warm-up records are expected",
                )
            _run(model, prediction_log_pb2.PredictionLog.FromString(record))
    except tf.errors.OpError as error:
        raise LoadError(Code.DATA_LOSS, f"{requests}: not a TFRecord file") from error
    except DecodeError as error:
        raise LoadError(
            Code.INVALID_ARGUMENT, f"{requests}: record {count} is not a PredictionLog"
        ) from error
    except ServingError as error:
        raise LoadError(
            error.code, f"{requests}: warm-up record {count} failed: {error.message}"
        ) from error
    return count


def _run(model: Model, record: prediction_log_pb2.PredictionLog) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        request = record.predict_log.request
        signature = _signature(model, request.model_spec.signature_name)
        inputs = {key: to_array(tensor, key, _MAX_BYTES) for key, tensor in request.inputs.items()}
        model.run(signature, signature.complete(inputs))
        return
    if kind == "classify_log":
        _run_examples(model, record.classify_log.request)
    elif kind == "regress_log":
        _run_examples(model, record.regress_log.request)
    elif kind == "multi_inference_log":
        requested = record.multi_inference_log.request
        rows = examples.serialized(requested.input)
        for task in requested.tasks:
            signature = _signature(model, task.model_spec.signature_name)
            model.run(signature, signature.complete({examples.INPUTS: rows}))
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def _run_examples(model: Model, request: object) -> None:
    signature = _signature(model, request.model_spec.signature_name)  # type: ignore[attr-defined]
    rows = examples.serialized(request.input)  # type: ignore[attr-defined]
    model.run(signature, signature.complete({examples.INPUTS: rows}))


def _signature(model: Model, name: str) -> Signature:
    chosen = name or DEFAULT_SIGNATURE
    if chosen not in model.signatures:
        raise ServingError(Code.FAILED_PRECONDITION, f"there is no signature {chosen!r}")
    return model.signatures[chosen]


def _make_up(model: Model) -> None:
    """Runs each signature on one and on two rows of zeros or empty strings.

    The model may refuse them, but by then TensorFlow has prepared the graph.
    """
    for signature in model.signatures.values():
        if signature.method not in METHODS or not signature.inputs:
            continue
        for rows in (1, 2):
            inputs = {key: _zeros(spec, rows) for key, spec in signature.inputs.items()}
            try:
                model.run(signature, signature.complete(inputs))
            except ServingError as error:
                _LOG.debug("made-up warm-up of %s: %s", signature.name, error.message)


def _zeros(spec: TensorSpec, rows: int) -> np.ndarray:
    sizes = (None,) if spec.shape is None else spec.shape
    shape = [1 if size is None else size for size in sizes]
    if spec.has_open_rows:
        shape[0] = rows
    if math.prod(shape) > _MAX_BYTES // 8:
        shape = [0] * len(shape)
    if spec.dtype is None:
        return np.zeros(shape, np.float32)
    return (
        np.full(shape, b"", np.object_) if spec.dtype == np.object_ else np.zeros(shape, spec.dtype)
    )
