"""Configuration of the canary, free of TensorFlow."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from schemas.loading import STRICT

# TensorFlow Serving reads no more; a model has about five signatures.
MAX_BATCH_SIZES = 50


class ServerChoice(enum.StrEnum):
    """Which server the canary starts.

    ``auto`` takes the first of the others that this machine has, in the order
    ``tensorflow_serving``, ``docker``, ``embedded``.
    """

    AUTO = "auto"
    TENSORFLOW_SERVING = "tensorflow_serving"
    DOCKER = "docker"
    EMBEDDED = "embedded"


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """The ``canary`` section of a run: what a model must show in a server before it is pushed.

    Attributes:
        enabled: whether there is a canary at all.
        server: which server is started: ``tensorflow_serving`` is the program
            ``tensorflow_model_server`` on PATH, ``docker`` its image if a daemon answers and has
            it, ``embedded`` our own.
        examples: test examples that are sent to every signature, at most.
        tolerance: largest accepted difference of two scores of one example, absolute.
        latency_p99_ms: largest accepted 99th percentile of a warm call with one example, in
            milliseconds, for each signature.
        latency_calls: calls that this percentile is taken over.
        batch_sizes: rows of the warm-up requests of each signature; candidates, for ``rank``.
        timeout_seconds: how long the server may take to load the model, and so may the process
            that scores the examples without a server.
    """

    __pydantic_config__ = STRICT

    enabled: bool = True
    server: ServerChoice = ServerChoice.AUTO
    examples: int = 256
    tolerance: float = 1e-5
    latency_p99_ms: float = 250.0
    latency_calls: int = 200
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    timeout_seconds: float = 300.0

    def __post_init__(self) -> None:
        # Two examples at least: one alone cannot show that scores are constant.
        for name, least in (("examples", 2), ("latency_calls", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)}: at least {least} is accepted")
        for name in ("tolerance", "latency_p99_ms", "timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: above 0 is accepted")
        sizes = self.batch_sizes
        if not sizes or len(sizes) > MAX_BATCH_SIZES or min(sizes) < 1:
            raise ValueError(
                f"batch_sizes {list(sizes)}: 1 to {MAX_BATCH_SIZES} sizes of at least 1 are "
                "accepted"
            )
        if len(set(sizes)) != len(sizes):
            raise ValueError(f"batch_sizes {list(sizes)}: each size once is accepted")
