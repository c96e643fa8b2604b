"""Configuration of the server, free of TensorFlow."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.loading import STRICT

MEBIBYTE = 1 << 20


class LogFormat(str, enum.Enum):
    """How the server writes its log."""

    TEXT = "text"
    JSON = "json"


def _at_least(owner: object, **bounds: float) -> None:
    for name, bound in bounds.items():
        value = getattr(owner, name)
        if value < bound:
            raise ValueError(f"{name}: at least {bound:g} is expected, found {value!r}")


@dataclass(frozen=True, kw_only=True)
class VersionPolicy:
    """Which of a model's versions are served: exactly one of the three.

    Attributes:
        latest: the newest so many; null with another choice.
        specific: these numbers.
        all: every version there is.
    """

    __pydantic_config__ = STRICT

    latest: int | None = None
    specific: tuple[int, ...] = ()
    all: bool = False

    def __post_init__(self) -> None:
        if self.latest is not None:
            _at_least(self, latest=1)
        if any(number < 0 for number in self.specific):
            raise ValueError(
                f"specific: numbers of at least 0 are expected, found {list(self.specific)}"
            )
        chosen = (self.latest is not None) + bool(self.specific) + self.all
        if chosen > 1:
            raise ValueError("latest, specific, all: one of them is expected, found several")
        if chosen == 0:
            object.__setattr__(self, "latest", 1)


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to serve.

    Attributes:
        name: what callers call it.
        path: folder of its numbered versions.
        policy: which versions are served.
        labels: version by label.
    """

    __pydantic_config__ = STRICT

    name: str
    path: str
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or any(character in "/:" for character in self.name):
            raise ValueError(f"name: a text without / and : is expected, found {self.name!r}")
        if not self.path:
            raise ValueError("path: a folder is expected, found an empty text")


@dataclass(frozen=True, kw_only=True)
class ListenConfig:
    """The ``listen`` section.

    Attributes:
        host: address to listen on; only this machine can reach the default.
        grpc_port: port of gRPC; 0 takes a free one.
        rest_port: port of REST and of the metrics; 0 takes a free one.
    """

    __pydantic_config__ = STRICT

    host: str = "127.0.0.1"
    grpc_port: int = 8500
    rest_port: int = 8501

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host: an address is expected, found an empty text")
        for name in ("grpc_port", "rest_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name}: 0 to 65535 is expected, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """The ``limits`` section.

    Attributes:
        concurrent_calls: inference calls under way at once; one more is refused with
            RESOURCE_EXHAUSTED (HTTP 503).
        request_bytes: largest gRPC message or HTTP body, also when unpacked.
        call_seconds: how long a call without a deadline of its own may take.
        header_seconds: how long a new HTTP connection may take to send its first headers, and
            before that for the handshake of TLS.
        body_seconds: how long an HTTP body or a gRPC message may take to arrive, and an answer
            over HTTP to be taken.
        idle_seconds: how long a kept-alive HTTP connection may stay idle.
        connections: HTTP connections open at once; one more is closed.
        drain_seconds: how long calls under way may take to end at shutdown.
    """

    __pydantic_config__ = STRICT

    concurrent_calls: int = 256
    request_bytes: int = 16 * MEBIBYTE
    call_seconds: float = 30.0
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    connections: int = 1024
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        _at_least(self, concurrent_calls=1, request_bytes=1024, connections=1)
        _at_least(self, call_seconds=0.001, header_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)
        _at_least(self, drain_seconds=0)


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """The ``batching`` section: requests that wait together share one TensorFlow call.

    Attributes:
        enabled: whether requests are merged at all.
        max_rows: rows of a merged batch at most.
        timeout_micros: how long the first request of a batch waits for others, microseconds. 0:
            only requests that came while another batch ran are merged.
        parallel_batches: TensorFlow calls under way at once for each signature.
        bypass_rows: a request of at least so many rows runs at once, by itself.
        bypass_bytes: so does one whose inputs are at least so large. A text counts 8 bytes, since
            merging does not copy it.
        pad_variable_length_inputs: also merge requests that differ in inner lengths, the shorter
            ones padded with zeros or empty strings, as TensorFlow Serving's option of this name
            does with the tensor's first value. Only right for a signature that is told the
            lengths.
    """

    __pydantic_config__ = STRICT

    enabled: bool = True
    max_rows: int = 64
    timeout_micros: int = 0
    parallel_batches: int = 1
    bypass_rows: int = 32
    bypass_bytes: int = 64 * 1024
    pad_variable_length_inputs: bool = False

    def __post_init__(self) -> None:
        _at_least(self, max_rows=1, timeout_micros=0, parallel_batches=1)
        _at_least(self, bypass_rows=1, bypass_bytes=1)


@dataclass(frozen=True, kw_only=True)
class VersionsConfig:
    """The ``versions`` section: how versions are found, loaded and let go.

    Attributes:
        poll_seconds: how often the folders are looked at.
        retry_seconds: when a version that failed to load is tried again; doubled each time.
        max_retry_seconds: longest such wait.
        drain_seconds: how long calls on a version that was replaced may take to end.
        spare_seconds: how long what TensorFlow prepared for a version that was replaced is kept,
            without the weights, for a version that differs in its weights only; 0 keeps nothing.
        warm_without_requests: run each signature once on made-up inputs where the model brings
            no warm-up requests.
        allow_labels_for_unavailable: accept a new label on a version that is not available yet;
            one that is in use moves to available versions only.
        models_config_poll_seconds: how often the file of the models is read again; 0 reads it at
            the start only.
    """

    __pydantic_config__ = STRICT

    poll_seconds: float = 1.0
    retry_seconds: float = 2.0
    max_retry_seconds: float = 60.0
    drain_seconds: float = 30.0
    spare_seconds: float = 60.0
    warm_without_requests: bool = True
    allow_labels_for_unavailable: bool = False
    models_config_poll_seconds: float = 0.0

    def __post_init__(self) -> None:
        _at_least(self, poll_seconds=0.05, retry_seconds=0.05, drain_seconds=0)
        _at_least(self, spare_seconds=0)
        _at_least(self, max_retry_seconds=self.retry_seconds, models_config_poll_seconds=0)


@dataclass(frozen=True, kw_only=True)
class SecurityConfig:
    """The ``security`` section; nothing of it is on by default.

    Attributes:
        certificate: PEM file of the server's certificate chain; turns TLS on for both ports.
        key: PEM file of its private key.
        client_ca: PEM file of authorities; a client must then show a certificate of theirs.
        token_file: file that holds a bearer token, which every call but health checks must show.
    """

    __pydantic_config__ = STRICT

    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    token_file: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate, key: both or neither are expected, found one")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca: needs certificate and key, found neither")
        for name in ("certificate", "key", "client_ca", "token_file"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):
                raise ValueError(f"{name}: a file is expected, found {path!r}")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """The ``runtime`` section: threads of TensorFlow; 0 leaves them to it.

    Attributes:
        intra_op_threads: threads within an operation.
        inter_op_threads: operations at once.
    """

    __pydantic_config__ = STRICT

    intra_op_threads: int = 0
    inter_op_threads: int = 0

    def __post_init__(self) -> None:
        _at_least(self, intra_op_threads=0, inter_op_threads=0)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The whole configuration of a server.

    Attributes:
        listen: where it listens.
        limits: what it refuses.
        batching: how requests are merged.
        versions: how versions are found, loaded and let go.
        policy: which versions of the one model are served; a models file has its own.
        security: TLS and token.
        runtime: threads of TensorFlow.
        log: form of the log.
    """

    __pydantic_config__ = STRICT

    listen: ListenConfig = field(default_factory=ListenConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    versions: VersionsConfig = field(default_factory=VersionsConfig)
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    log: LogFormat = LogFormat.TEXT
