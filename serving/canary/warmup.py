"""Warm-up requests: what a server runs on a new version before it answers with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import input_pb2, prediction_log_pb2

from serving.canary.requests import CanaryRequest
from serving.scoring.score import CLASSIFY_METHOD, REGRESS_METHOD
from serving.server.versions.warmup import MAX_RECORDS, REQUESTS


def write_warm_copy(model: Path, copy: Path, requests: Sequence[CanaryRequest]) -> int:
    """Copies a SavedModel and gives the copy warm-up requests, instead of any that it has.

    Args:
        model: folder of the SavedModel; stays as it is.
        copy: folder that is made.
        requests: what a server is to run, in this order.

    Returns:
        How many requests the file holds.

    Raises:
        OSError: the disk does not take it.
        ValueError: these are more than TensorFlow Serving reads.
    """
    if len(requests) > MAX_RECORDS:
        raise ValueError(f"{len(requests)} warm-up requests: at most {MAX_RECORDS} are accepted")
    shutil.copytree(model, copy)
    path = copy / REQUESTS
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for request in requests:
            writer.write(_log(request).SerializeToString())
    temporary.replace(path)
    return sum(1 for _ in read_warmup(copy))


def read_warmup(model: Path) -> Iterable[prediction_log_pb2.PredictionLog]:
    """Reads the warm-up requests of a SavedModel."""
    for record in tf.data.TFRecordDataset(str(model / REQUESTS)).as_numpy_iterator():
        yield prediction_log_pb2.PredictionLog.FromString(record)


def _log(request: CanaryRequest) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    if request.method == CLASSIFY_METHOD:
        log.classify_log.request.model_spec.signature_name = request.signature
        _fill(log.classify_log.request.input, request.examples)
    elif request.method == REGRESS_METHOD:
        log.regress_log.request.model_spec.signature_name = request.signature
        _fill(log.regress_log.request.input, request.examples)
    else:
        predict = log.predict_log.request
        predict.model_spec.signature_name = request.signature
        for name, array in request.inputs.items():
            kind = tf.string if array.dtype == object else None
            predict.inputs[name].CopyFrom(tf.make_tensor_proto(array, kind))
    return log


def _fill(target: input_pb2.Input, examples: Sequence[bytes]) -> None:
    for example in examples:
        target.example_list.examples.add().ParseFromString(example)
