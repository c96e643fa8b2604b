"""Requests of the canary: real examples in the form that each signature takes.

A signature for Classify or Regress, and one with a single input of text, take the examples as
they are. Any other has its inputs filled with the features of these names. One with a
``candidate_count`` takes a row a user, the items of other examples as the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from schemas import features
from serving.client import CANDIDATE_COUNT
from serving.client_support.results import Signature, TensorSpec
from serving.protocol import messages
from serving.protocol.tensor_codec import STRING, cast
from serving.scoring.rows import example_input

# Rows of a request; users and candidates of a request that ranks.
ROWS = 32
USERS, CANDIDATES = 8, 16

Features: TypeAlias = Mapping[str, Sequence[Any]]
Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class CanaryRequest:
    """One call.

    Attributes:
        signature: name of the signature.
        method: its method name, which says by which API it is called.
        inputs: arrays by input name; for Classify and Regress, the serialized examples.
        rows: the example of each row; of each user, where users are ranked.
        candidates: for a request that ranks, the example that each candidate comes from, a list
            a user, as long as the user's count.
    """

    signature: str
    method: str
    inputs: Arrays
    rows: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...] | None = None

    @property
    def examples(self) -> list[bytes]:
        """The serialized examples of a request that holds such."""
        (serialized,) = self.inputs.values()
        return list(serialized)


class RequestBuilder:
    """Builds the requests of one signature."""

    def __init__(self, name: str, signature: Signature, examples: Sequence[bytes]):
        """Looks at what the signature takes.

        Args:
            name: name of the signature.
            signature: its inputs and outputs.
            examples: serialized ``tf.Example``s.

        Raises:
            ValueError: it takes nothing that the examples have; names its inputs.
        """
        self._name = name
        self._signature = signature
        self._examples = examples
        self._serialized = example_input(signature)
        self._features = [] if self._serialized else [_features(one) for one in examples]
        self.ranks = CANDIDATE_COUNT in signature.inputs
        known = {name for one in self._features for name in one}
        if self._serialized is None and not known & signature.inputs.keys():
            raise ValueError(
                f"inputs {', '.join(sorted(signature.inputs)) or 'none'}, none of which is a "
                "feature of the examples"
            )

    @property
    def candidate_inputs(self) -> list[str]:
        """Inputs of a signature that ranks which hold a value a candidate."""
        return [
            name
            for name, spec in self._signature.inputs.items()
            if _is_wide(spec) and not name.startswith(features.HISTORY_PREFIX)
        ]

    def all(self) -> list[CanaryRequest]:
        """Returns requests that together hold every example."""
        count = len(self._examples)
        step = USERS if self.ranks else ROWS
        chunks = [range(first, min(first + step, count)) for first in range(0, count, step)]
        if not self.ranks:
            return [self.rows(chunk) for chunk in chunks]
        # From one candidate to as many as there is room for, so that some columns are empty.
        return [
            self.ranking(chunk, [1 + (7 * user + 3) % CANDIDATES for user in chunk])
            for chunk in chunks
        ]

    def of_size(self, size: int, first: int = 0) -> CanaryRequest:
        """Returns a request of ``size`` rows, or of one user with ``size`` candidates.

        Args:
            size: rows or candidates; examples are repeated where there are fewer.
            first: example to begin with.
        """
        count = len(self._examples)
        if self.ranks:
            return self.ranking([first % count], [size])
        return self.rows([(first + row) % count for row in range(size)])

    def rows(self, chosen: Sequence[int]) -> CanaryRequest:
        """Returns a request with a row an example."""
        if self._serialized:
            serialized = [self._examples[index] for index in chosen]
            inputs = {self._serialized: cast(self._serialized, serialized, STRING)}
        else:
            inputs = self._columns([self._features[index] for index in chosen])
        return self._request(inputs, chosen, None)

    def ranking(self, users: Sequence[int], counts: Sequence[int]) -> CanaryRequest:
        """Returns a request with a row a user and the items of the next examples as candidates.

        Args:
            users: example of each user.
            counts: candidates of each user.
        """
        total, width = len(self._examples), max(counts)
        candidates = tuple(
            tuple((user + step) % total for step in range(count))
            for user, count in zip(users, counts, strict=True)
        )
        rows = [dict(self._features[index]) for index in users]
        for row, chosen in zip(rows, candidates, strict=True):
            for name in self.candidate_inputs:
                values = [_first(self._features[index], name) for index in chosen]
                row[name] = values + [None] * (width - len(values))
            row[CANDIDATE_COUNT] = [len(chosen)]
        return self._request(self._columns(rows), users, candidates)

    def expanded(self, request: CanaryRequest) -> list[bytes]:
        """Returns the candidates of a request that ranks as one example each, user by user."""
        assert request.candidates is not None
        wanted = self.candidate_inputs
        return [
            _with_features(self._examples[user], self._examples[candidate], wanted)
            for user, chosen in zip(request.rows, request.candidates, strict=True)
            for candidate in chosen
        ]

    def _request(
        self,
        inputs: Arrays,
        rows: Sequence[int],
        candidates: tuple[tuple[int, ...], ...] | None,
    ) -> CanaryRequest:
        return CanaryRequest(
            signature=self._name,
            method=self._signature.method_name,
            inputs=inputs,
            rows=tuple(rows),
            candidates=candidates,
        )

    def _columns(self, rows: Sequence[Features]) -> Arrays:
        lengths = [len(row.get(features.HISTORY_ITEM_ID, ())) for row in rows]
        columns = {}
        for name, spec in self._signature.inputs.items():
            if name == features.HISTORY_LENGTH:
                values: Any = lengths
            elif _is_wide(spec):
                values = _lists(name, rows, lengths, spec)
            else:
                values = [_or_missing(_first(row, name), spec) for row in rows]
            columns[name] = cast(name, values, spec.dtype)
        return columns


def uses_examples(signature: Signature) -> bool:
    """Whether a signature takes serialized examples."""
    return example_input(signature) is not None


def _lists(
    name: str, rows: Sequence[Features], lengths: Sequence[int], spec: TensorSpec
) -> np.ndarray:
    """Fills an input [rows, values]; a history that lacks values gets missing ones."""
    is_history = name.startswith(features.HISTORY_PREFIX)
    width = max(lengths) if is_history else max(len(row.get(name, ())) for row in rows)
    # The export wants 0 where an action type is not known.
    gap = 0 if name == features.HISTORY_ACTION else _or_missing(None, spec)
    filler = "" if spec.dtype == STRING else 0
    array = np.empty((len(rows), width), dtype=object)
    for row, length, given in zip(array, lengths, rows, strict=True):
        values = list(given.get(name, ()))
        if is_history:
            values = values[:length] + [gap] * (length - len(values))
        row[:] = [gap if one is None else one for one in values] + [filler] * (width - len(values))
    if spec.dtype == STRING:
        return array
    return array.astype(np.float64 if _is_float(spec) else np.int64)


def _is_wide(spec: TensorSpec) -> bool:
    return spec.shape is not None and len(spec.shape) == 2


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype in ("DT_FLOAT", "DT_DOUBLE", "DT_HALF")


def _or_missing(value: Any, spec: TensorSpec) -> Any:
    if value is not None:
        return value
    if spec.dtype == STRING:
        return features.MISSING_STRING
    return float("nan") if _is_float(spec) else features.MISSING_INT


def _first(values: Features, name: str) -> Any:
    found = values.get(name)
    return found[0] if found else None


def _features(serialized: bytes) -> Features:
    """Returns the values of an example by feature name, but for empty ones."""
    found = {}
    for name, feature in messages.Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if values:
            found[name] = values
    return found


def _with_features(target: bytes, source: bytes, names: Sequence[str]) -> bytes:
    """Returns an example with the named features of another one."""
    example, other = messages.Example.FromString(target), messages.Example.FromString(source)
    for name in names:
        example.features.feature.pop(name, None)
        if name in other.features.feature:
            example.features.feature[name].CopyFrom(other.features.feature[name])
    return example.SerializeToString(deterministic=True)
