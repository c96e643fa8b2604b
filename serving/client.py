"""Client of TF Serving and of every server that speaks its API, without TensorFlow.

    from serving.client import Client, ClientConfig

    with Client(ClientConfig(address="localhost:8500")) as client:
        ranked = client.rank(
            "ranker",
            users={"user_id": [7], "history_item_id": [[3, 5, 8]], "history_length": [3]},
            candidates={"item_id": [[11, 12, 13]]},
        )
        best = ranked.order()[0]

A client is made once and shared by all threads: it keeps its connections open. gRPC and REST give
the same results, but that REST does not say which version answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from serving.client_support.config import ClientConfig
from serving.client_support.config import Transport as TransportKind
from serving.client_support.errors import ServingError, StatusCode
from serving.client_support.results import (
    ClassifyResult,
    ModelMetadata,
    ModelStatus,
    ModelTarget,
    PredictResult,
    RankResult,
    RegressResult,
)
from serving.client_support.retry import call_with_retries
from serving.protocol import tf_examples
from serving.protocol.tensor_codec import as_array

# What callers name; the rest of client_support is not for them.
__all__ = [
    "CANDIDATE_COUNT",
    "Client",
    "ClientConfig",
    "ModelTarget",
    "ServingError",
    "StatusCode",
]

CANDIDATE_COUNT = "candidate_count"


class Transport(Protocol):
    """One attempt at each call, by one protocol; ``timeout`` is in seconds."""

    def predict(
        self,
        target: ModelTarget,
        inputs: Mapping[str, Any],
        signature_name: str,
        outputs: Sequence[str],
        timeout: float,
    ) -> PredictResult:
        """Calls Predict."""

    def classify(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> ClassifyResult:
        """Calls Classify."""

    def regress(
        self, target: ModelTarget, examples: Sequence[bytes], signature_name: str, timeout: float
    ) -> RegressResult:
        """Calls Regress."""

    def status(self, target: ModelTarget, timeout: float) -> ModelStatus:
        """Asks which versions there are."""

    def metadata(self, target: ModelTarget, timeout: float) -> ModelMetadata:
        """Asks which signatures there are."""

    def close(self) -> None:
        """Closes the connections."""


class Client:
    """Calls a model server.

    Every method takes ``model``, a name or a ``ModelTarget`` with a version or label, and
    ``deadline_seconds``, which counts for the whole call with its retries.

    Raises, in every method:
        ServingError: the server refused, or did not answer in time.
        ValueError: an argument cannot be sent; names it.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._transport = _open(config)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def predict(
        self,
        model: str | ModelTarget,
        inputs: Mapping[str, Any],
        *,
        signature_name: str = "serving_default",
        outputs: Sequence[str] = (),
        deadline_seconds: float | None = None,
    ) -> PredictResult:
        """Calls a signature with tensors.

        Args:
            model: what to call.
            inputs: arrays by input name, of the types that the signature has: over gRPC nothing
                is converted. Serialized ``tf.Example``s are a list of bytes.
            signature_name: which signature.
            outputs: outputs to send back; all of them if empty.
            deadline_seconds: the configured deadline if not given.
        """
        target = _target(model)
        arrays = _arrays("inputs", inputs)
        return self._retried(
            lambda left: self._transport.predict(target, arrays, signature_name, outputs, left),
            deadline_seconds,
        )

    def classify(
        self,
        model: str | ModelTarget,
        examples: Sequence[bytes | Mapping[str, Any]],
        *,
        signature_name: str = "classify",
        deadline_seconds: float | None = None,
    ) -> ClassifyResult:
        """Classifies examples: serialized ``tf.Example``s, or values by feature name."""
        target, serialized = _target(model), _serialized(examples)
        return self._retried(
            lambda left: self._transport.classify(target, serialized, signature_name, left),
            deadline_seconds,
        )

    def regress(
        self,
        model: str | ModelTarget,
        examples: Sequence[bytes | Mapping[str, Any]],
        *,
        signature_name: str = "regress",
        deadline_seconds: float | None = None,
    ) -> RegressResult:
        """Gives examples a value each: serialized ``tf.Example``s, or values by feature name."""
        target, serialized = _target(model), _serialized(examples)
        return self._retried(
            lambda left: self._transport.regress(target, serialized, signature_name, left),
            deadline_seconds,
        )

    def rank(
        self,
        model: str | ModelTarget,
        users: Mapping[str, Any],
        candidates: Mapping[str, Any],
        *,
        candidate_count: Any = None,
        signature_name: str = "rank",
        deadline_seconds: float | None = None,
    ) -> RankResult:
        """Scores candidates of users.

        Args:
            model: what to call.
            users: what is the user's, by input name: [users] or [users, events].
            candidates: what is the candidates', by input name: [users, candidates].
            candidate_count: how many of each user's candidates count, [users]; all if not given.
            signature_name: which signature.
            deadline_seconds: the configured deadline if not given.
        """
        arrays, columns = _arrays("users", users), _arrays("candidates", candidates)
        counts = _counts(arrays, columns, candidate_count)
        result = self.predict(
            model,
            {**arrays, **columns, CANDIDATE_COUNT: counts},
            signature_name=signature_name,
            deadline_seconds=deadline_seconds,
        )
        if len(result.outputs) != 1:
            raise ServingError(
                StatusCode.INTERNAL,
                f"signature {signature_name!r} has {len(result.outputs)} outputs; one is expected",
            )
        (scores,) = result.outputs.values()
        return RankResult(
            scores=_of_candidates(scores, next(iter(columns.values())).shape),
            counts=counts,
            answered=result.answered,
        )

    def status(
        self, model: str | ModelTarget, *, deadline_seconds: float | None = None
    ) -> ModelStatus:
        """Asks which versions of a model the server knows, and what state they are in."""
        target = _target(model)
        return self._retried(lambda left: self._transport.status(target, left), deadline_seconds)

    def metadata(
        self, model: str | ModelTarget, *, deadline_seconds: float | None = None
    ) -> ModelMetadata:
        """Asks for the signatures of a model: names, types and shapes."""
        target = _target(model)
        return self._retried(lambda left: self._transport.metadata(target, left), deadline_seconds)

    def _retried(self, attempt: Any, deadline_seconds: float | None) -> Any:
        seconds = self.config.deadline_seconds if deadline_seconds is None else deadline_seconds
        if not 0 < seconds < math.inf:
            raise ValueError(f"deadline_seconds {seconds}: a number above 0 is accepted")
        return call_with_retries(attempt, self.config.retry, seconds)


def _open(config: ClientConfig) -> Transport:
    # Either brings in a library that the other does not need.
    if config.transport is TransportKind.REST:
        from serving.client_support.rest_transport import RestTransport

        return RestTransport(config)
    from serving.client_support.grpc_transport import GrpcTransport

    return GrpcTransport(config)


def _target(model: str | ModelTarget) -> ModelTarget:
    return model if isinstance(model, ModelTarget) else ModelTarget(name=model)


def _arrays(argument: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{argument}: values by input name are expected, found a {type(values).__name__}"
        )
    arrays = {name: as_array(name, array) for name, array in values.items()}
    for name, array in arrays.items():
        # numpy would make it float64, which over gRPC is refused as such.
        if not array.size and not isinstance(values[name], np.ndarray):
            raise ValueError(
                f"{argument}: {name!r} holds nothing, and so has no type: an array of the input's "
                "type is accepted, such as numpy.zeros((1, 1), numpy.int64)"
            )
    return arrays


def _serialized(examples: Sequence[bytes | Mapping[str, Any]]) -> list[bytes]:
    return [
        tf_examples.check(one) if isinstance(one, bytes) else tf_examples.serialize(one)
        for one in examples
    ]


def _of_candidates(scores: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cuts scores to the request's columns: a server that merges requests pads them alike."""
    users, candidates = shape
    if scores.ndim != 2 or scores.shape[0] != users or scores.shape[1] < candidates:
        raise ServingError(
            StatusCode.INTERNAL, f"scores of shape {list(shape)} are expected, found {scores.shape}"
        )
    return scores[:, :candidates]


def _counts(
    users: Mapping[str, np.ndarray], candidates: Mapping[str, np.ndarray], given: Any
) -> np.ndarray:
    if not candidates:
        raise ValueError("candidates: at least one input is expected")
    shapes = {name: array.shape for name, array in candidates.items()}
    first = next(iter(shapes.values()))
    if len(first) != 2 or any(shape != first for shape in shapes.values()):
        raise ValueError(f"candidates: one shape [users, candidates] is expected, found {shapes}")
    rows, width = first
    wrong = {name: array.shape for name, array in users.items() if array.shape[:1] != (rows,)}
    if wrong:
        raise ValueError(f"users: {rows} rows are expected as in candidates, found {wrong}")
    if given is None:
        return np.full(rows, width, dtype=np.int64)
    counts = np.asarray(given)
    if counts.shape != (rows,) or counts.dtype.kind not in "iu":
        raise ValueError(f"candidate_count: {rows} whole numbers are expected, found {given!r}")
    if ((counts < 0) | (counts > width)).any():
        raise ValueError(f"candidate_count: 0 to {width} is accepted, found {given!r}")
    return counts.astype(np.int64)
