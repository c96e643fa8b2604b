"""Configuration of a deployment of TensorFlow Serving, free of TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.loading import STRICT
from serving.server.config import VersionPolicy

# The release of TensorFlow Serving that is built with the TensorFlow that writes our models.
IMAGE = "tensorflow/serving:2.21.0"

# Kubernetes takes names of this form for objects, and the model's name is part of theirs.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class BatchingFileConfig:
    """What TensorFlow Serving merges requests by; the ``batching.config`` file.

    Attributes:
        enabled: whether requests are merged at all.
        max_batch_size: rows of a merged batch at most; a request with more is refused as
            INVALID_ARGUMENT, and a version with such a warm-up request is not loaded. A ``rank``
            row is a user with all its candidates.
        batch_timeout_micros: microseconds that a request waits for others at most.
        max_enqueued_batches: batches that wait at most; a request above is refused as
            UNAVAILABLE, and a client that heeds that comes back later.
        allowed_batch_sizes: sizes that a batch is padded to, rising, the last one
            ``max_batch_size``; powers of two up to it if empty.
    """

    __pydantic_config__ = STRICT

    enabled: bool = True
    max_batch_size: int = 64
    batch_timeout_micros: int = 1_000
    max_enqueued_batches: int = 100
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, lowest in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
        ):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} {getattr(self, name)}: at least {lowest} is accepted")
        sizes = self.sizes
        if list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"allowed_batch_sizes {list(sizes)}: rising sizes of which the last is "
                f"max_batch_size ({self.max_batch_size}) are accepted"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The allowed batch sizes, worked out if not given."""
        if self.allowed_batch_sizes:
            return self.allowed_batch_sizes
        powers = [1 << bit for bit in range(self.max_batch_size.bit_length())]
        return tuple(sorted({*powers, self.max_batch_size}))


@dataclass(frozen=True, kw_only=True)
class ResourcesConfig:
    """What one replica may use.

    Attributes:
        cpus: processors; TensorFlow's thread pools are made for as many.
        memory_gib: memory in GiB. Two versions are in memory while one replaces the other.
        replicas: pods in Kubernetes.
    """

    __pydantic_config__ = STRICT

    cpus: int = 2
    memory_gib: float = 4.0
    replicas: int = 2

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise ValueError(f"cpus {self.cpus}: at least 1 is accepted")
        if not 0 < self.memory_gib < float("inf"):
            raise ValueError(f"memory_gib {self.memory_gib}: above 0 is accepted")
        if self.replicas < 1:
            raise ValueError(f"replicas {self.replicas}: at least 1 is accepted")


@dataclass(frozen=True, kw_only=True)
class FlagsConfig:
    """Flags of the model server that its defaults do not suit.

    Attributes:
        load_retry_interval_micros: microseconds before a version that did not load is tried
            again; the server's own 60 s leave a push that met a full disk waiting.
        max_num_load_retries: how often it is tried again.
        file_system_poll_wait_seconds: seconds between looks for new versions.
        model_config_poll_wait_seconds: seconds between looks at ``models.config``.
        rest_api_timeout_ms: milliseconds after which a REST call is given up.
        max_message_mib: largest gRPC message in MiB, which bounds a request; the server's own
            bound is 2 GiB, and so less than that is accepted.
    """

    __pydantic_config__ = STRICT

    load_retry_interval_micros: int = 1_000_000
    max_num_load_retries: int = 60
    file_system_poll_wait_seconds: int = 1
    model_config_poll_wait_seconds: int = 30
    rest_api_timeout_ms: int = 5_000
    max_message_mib: int = 64

    def __post_init__(self) -> None:
        for name, lowest in (
            ("load_retry_interval_micros", 0),
            ("max_num_load_retries", 0),
            ("file_system_poll_wait_seconds", 1),
            ("model_config_poll_wait_seconds", 0),
            ("rest_api_timeout_ms", 1),
            ("max_message_mib", 1),
        ):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} {getattr(self, name)}: at least {lowest} is accepted")
        if self.max_message_mib >= 2048:
            # In bytes it would not fit the server's 32 bits, which then takes any size.
            raise ValueError(f"max_message_mib {self.max_message_mib}: below 2048 is accepted")


@dataclass(frozen=True, kw_only=True)
class DeployConfig:
    """A deployment of one model.

    Attributes:
        name: what callers call the model, and the objects in Kubernetes; small letters, digits
            and ``-``.
        image: image of TensorFlow Serving, with a tag or digest.
        versions: which versions are served; each takes its memory.
        labels: version by label, such as ``stable``.
        batching: how requests are merged.
        resources: what a replica may use.
        flags: further settings of the server.
        grpc_port: port of gRPC.
        rest_port: port of REST and of the metrics.
        volume_claim: PersistentVolumeClaim in Kubernetes that holds the model's folder;
            ``<name>-models`` if not given.
    """

    __pydantic_config__ = STRICT

    name: str = "ranker"
    image: str = IMAGE
    versions: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)
    batching: BatchingFileConfig = field(default_factory=BatchingFileConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    flags: FlagsConfig = field(default_factory=FlagsConfig)
    grpc_port: int = 8500
    rest_port: int = 8501
    volume_claim: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r}: up to 40 small letters, digits and '-', a letter first, "
                "are accepted"
            )
        tag = self.image.rpartition("/")[2]
        if ":" not in tag and "@" not in tag:
            raise ValueError(f"image {self.image!r}: a tag is expected, such as {IMAGE}")
        if tag.endswith(":latest"):
            raise ValueError(f"image {self.image!r}: a tag that stays is expected, such as {IMAGE}")
        for name in ("grpc_port", "rest_port"):
            if not 1024 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name} {getattr(self, name)}: 1024 to 65535 is accepted")
        if self.grpc_port == self.rest_port:
            raise ValueError("grpc_port and rest_port: two ports are expected, found one")
        for label, version in self.labels.items():
            if not label:
                raise ValueError("labels: an empty label is not accepted")
            if self.versions.specific and version not in self.versions.specific:
                raise ValueError(
                    f"labels.{label} {version}: not among versions.specific "
                    f"{list(self.versions.specific)}"
                )

    @property
    def claim(self) -> str:
        """Name of the volume claim."""
        return self.volume_claim or f"{self.name}-models"
