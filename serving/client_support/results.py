"""What the client returns, the same for gRPC and REST."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ModelTarget:
    """Which model a call is for.

    Attributes:
        name: name of the model on the server.
        version: one version of it; the server's choice, the highest, if not given.
        label: the version with this label; not together with ``version``.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or ":" in self.name:
            raise ValueError(f"model {self.name!r}: a name without '/' and ':' is accepted")
        if self.version is not None and self.label is not None:
            raise ValueError("version and label: give one of the two")
        if self.version is not None and self.version < 0:
            raise ValueError(f"version {self.version}: at least 0 is accepted")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Who answered a call.

    Attributes:
        model: name of the model.
        version: its version; None over REST, whose answers do not name it.
        signature_name: signature that was called.
    """

    model: str
    version: int | None
    signature_name: str


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """Outputs by name; strings are object arrays of bytes."""

    outputs: Mapping[str, np.ndarray]
    answered: Answered


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of one example."""

    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class ClassifyResult:
    """Classes with their scores, one tuple an example."""

    rows: tuple[tuple[ClassScore, ...], ...]
    answered: Answered

    def scores_of(self, label: str) -> np.ndarray:
        """Returns the score of one class for every example, [examples].

        Raises:
            ValueError: an example has no such class.
        """
        scores = []
        for row in self.rows:
            found = [one.score for one in row if one.label == label]
            if not found:
                known = ", ".join(one.label for one in row)
                raise ValueError(f"label {label!r}: not among the classes ({known})")
            scores.append(found[0])
        return np.asarray(scores, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class RegressResult:
    """One value an example, [examples]."""

    values: np.ndarray
    answered: Answered


@dataclass(frozen=True, kw_only=True)
class RankResult:
    """Scores of each user's candidates.

    Attributes:
        scores: [users, candidates], 0 past a user's count.
        counts: candidates of each user, [users].
        answered: who answered.
    """

    scores: np.ndarray
    counts: np.ndarray
    answered: Answered

    def order(self, user: int = 0) -> np.ndarray:
        """Returns the columns of a user's candidates, best first; ties in the order given."""
        return np.argsort(-self.scores[user, : self.counts[user]], kind="stable")


class VersionState(enum.StrEnum):
    """Where a version is in its life."""

    UNKNOWN = "UNKNOWN"
    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """State of one version; ``error`` says why it did not load, if it did not."""

    version: int
    state: VersionState
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """State of every version that the server knows of, highest first."""

    versions: tuple[VersionStatus, ...]

    @property
    def available(self) -> tuple[int, ...]:
        """Versions that answer calls, highest first."""
        return tuple(one.version for one in self.versions if one.state is VersionState.AVAILABLE)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Type and shape of an input or output.

    Attributes:
        dtype: name such as ``DT_INT64``.
        shape: sizes, -1 for any; None if the rank is not known.
    """

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs of a signature by name, and the API that it is for."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Signatures of a model by name."""

    name: str
    version: int | None
    signatures: Mapping[str, Signature]

    def signature(self, name: str) -> Signature:
        """Returns one signature.

        Raises:
            ValueError: there is none of that name; names those that there are.
        """
        if name not in self.signatures:
            known = ", ".join(sorted(self.signatures)) or "none"
            raise ValueError(f"signature {name!r}: the model {self.name!r} has {known}")
        return self.signatures[name]
