"""Scores rows in order, several calls at once, with a server or a model in this process."""

from __future__ import annotations

import base64
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from serving.client import Client, ServingError
from serving.client_support.results import ModelMetadata, ModelTarget, Signature
from serving.client_support.specifications import metadata_of
from serving.protocol import messages
from serving.scoring.rows import Row, examples_of, inputs_of

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

# Takes the rows of one call; gives its outputs, a row a row.
ScoreRows: TypeAlias = Callable[[list[Row]], Mapping[str, np.ndarray]]


def with_server(
    client: Client, target: ModelTarget, signature_name: str, signature: Signature
) -> ScoreRows:
    """Returns what scores rows with a server, by the API that the signature is for."""

    def classify(rows: list[Row]) -> Mapping[str, np.ndarray]:
        result = client.classify(target, examples_of(rows), signature_name=signature_name)
        return {
            "classes": _objects([[one.label for one in row] for row in result.rows]),
            "scores": _objects([[one.score for one in row] for row in result.rows]),
        }

    def regress(rows: list[Row]) -> Mapping[str, np.ndarray]:
        result = client.regress(target, examples_of(rows), signature_name=signature_name)
        return {"value": result.values}

    def predict(rows: list[Row]) -> Mapping[str, np.ndarray]:
        inputs = inputs_of(rows, signature)
        return client.predict(target, inputs, signature_name=signature_name).outputs

    return {CLASSIFY_METHOD: classify, REGRESS_METHOD: regress}.get(signature.method_name, predict)


def with_model(folder: Path, signature_name: str) -> ScoreRows:
    """Loads a version folder and returns what scores rows with it, in this process.

    Raises:
        ValueError: there is no model, or no such signature.
    """
    signature = model_metadata(folder).signature(signature_name)
    import tensorflow as tf

    from serving.server.versions.failures import reason_of

    loaded = tf.saved_model.load(str(folder))
    called = loaded.signatures[signature_name]

    def score(rows: list[Row]) -> Mapping[str, np.ndarray]:
        # The function holds no reference to the model whose variables it reads.
        assert loaded is not None
        inputs = {name: tf.constant(one) for name, one in inputs_of(rows, signature).items()}
        try:
            return {name: one.numpy() for name, one in called(**inputs).items()}
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(reason_of(error.message)) from error

    return score


def model_metadata(folder: Path) -> ModelMetadata:
    """Reads the signatures of a version folder without loading it.

    Raises:
        ValueError: there is no SavedModel.
    """
    from google.protobuf.message import DecodeError

    model = messages.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except OSError as error:
        versions = sorted(int(one.name) for one in folder.glob("*") if one.name.isdecimal())
        hint = f"; a version such as {folder / str(versions[-1])} is accepted" if versions else ""
        raise ValueError(f"{folder}: saved_model.pb: {error.strerror or error}{hint}") from None
    except DecodeError:
        raise ValueError(f"{folder}: saved_model.pb is not a SavedModel") from None
    signatures = messages.SignatureDefMap()
    for graph in model.meta_graphs:
        for name, one in graph.signature_def.items():
            signatures.signature_def[name].CopyFrom(one)
    spec = messages.PredictRequest().model_spec
    spec.name = folder.name
    return metadata_of(spec, signatures)


def score_rows(
    rows: Iterable[Row], score: ScoreRows, *, batch_size: int, concurrency: int
) -> Iterator[dict[str, Any]]:
    """Scores rows and gives the outputs of each as plain values, in the order of the rows.

    Args:
        rows: read as they are needed.
        score: scores the rows of one call; called from several threads.
        batch_size: rows of a call.
        concurrency: calls under way at once.

    Raises:
        ValueError: a row cannot be scored, or an output has other rows than the input; says in
            which rows.
        ServingError: a server refused a call, or did not answer in time; says in which rows.
    """
    if batch_size < 1 or concurrency < 1:
        raise ValueError(
            f"batch_size {batch_size}, concurrency {concurrency}: at least 1 is accepted"
        )
    first = 0
    pending: deque[tuple[int, int, Future[Mapping[str, np.ndarray]]]] = deque()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for batch in _batched(rows, batch_size):
                pending.append((first, len(batch), pool.submit(score, batch)))
                first += len(batch)
                if len(pending) > concurrency:
                    yield from _plain_rows(*pending.popleft())
            while pending:
                yield from _plain_rows(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _plain_rows(
    first: int, count: int, future: Future[Mapping[str, np.ndarray]]
) -> Iterator[dict[str, Any]]:
    where = f"rows {first + 1} to {first + count}"
    try:
        outputs = future.result()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    except ServingError as error:
        error.message = f"{where}: {error.message}"
        raise
    for name, array in outputs.items():
        if array.shape[:1] != (count,):
            raise ValueError(
                f"{where}: output {name!r} has the shape {list(array.shape)}; one row a row is "
                "expected"
            )
    columns = {name: _plain(array) for name, array in outputs.items()}
    for row in range(count):
        yield {name: values[row] for name, values in columns.items()}


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _plain(array: np.ndarray) -> list[Any]:
    if array.dtype == object:
        return [_text(value) for value in array.tolist()]
    if array.dtype == np.float32:
        # The shortest decimal of a float32, not that of the nearest float64.
        return [_decimal(value) for value in array]
    return array.tolist()


def _decimal(value: Any) -> Any:
    return float(str(value)) if value.ndim == 0 else [_decimal(one) for one in value]


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def _objects(rows: list[list[Any]]) -> np.ndarray:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array
