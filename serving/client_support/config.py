"""Configuration of the client, free of gRPC and TensorFlow."""

from __future__ import annotations

import enum
import math
import re
import urllib.parse
from dataclasses import dataclass, field

from schemas.loading import STRICT

REST_SCHEMES = ("http://", "https://")
# A name or number that only begins so, such as localhost.example.org, is another machine's.
_THIS_MACHINE = re.compile(
    r"unix:.+|(http://)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?(/.*)?", re.IGNORECASE
)


class Transport(enum.StrEnum):
    """How a server is talked to."""

    GRPC = "grpc"
    REST = "rest"


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Files of a connection under TLS, all PEM.

    Attributes:
        ca_file: certificates that the server's must be signed by; those of the system if not
            given.
        cert_file: certificate of the client, for servers that ask for one.
        key_file: key of that certificate.
        server_name: name expected in the server's certificate, where it is not the address.
    """

    __pydantic_config__ = STRICT

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: give both or neither")


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How a call is made again after ``UNAVAILABLE`` or ``RESOURCE_EXHAUSTED``.

    The pause before attempt n + 1 is drawn evenly from 0 to
    ``min(max_backoff_seconds, first_backoff_seconds * multiplier ** (n - 1))``: clients that were
    refused together do not come back together.

    Attributes:
        attempts: how often a call is made at most, the first time included.
        first_backoff_seconds: longest pause after the first attempt.
        multiplier: factor of that pause from one attempt to the next.
        max_backoff_seconds: longest pause ever.
    """

    __pydantic_config__ = STRICT

    attempts: int = 4
    first_backoff_seconds: float = 0.05
    multiplier: float = 2.0
    max_backoff_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts {self.attempts}: at least 1 is accepted")
        if not self.first_backoff_seconds > 0:
            raise ValueError(
                f"first_backoff_seconds {self.first_backoff_seconds}: above 0 is accepted"
            )
        if not self.multiplier >= 1:
            raise ValueError(f"multiplier {self.multiplier}: at least 1 is accepted")
        if not self.max_backoff_seconds >= self.first_backoff_seconds:
            raise ValueError(
                f"max_backoff_seconds {self.max_backoff_seconds}: at least first_backoff_seconds "
                f"({self.first_backoff_seconds}) is accepted"
            )


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Where a server is and how it is called.

    Attributes:
        address: ``host:port``, or any name that gRPC resolves such as ``dns:///host:port``, for
            gRPC; ``http://host:port`` or ``https://host:port`` for REST.
        deadline_seconds: longest time of a call, retries and pauses included.
        retry: when a call is made again.
        tls: files of a connection under TLS. Without it gRPC goes in clear text; ``https://``
            uses the system's certificates.
        bearer_token: sent with each call as ``authorization: Bearer …``. In clear text it is
            only sent to this machine.
        connections: connections that REST keeps open; gRPC shares one.
        max_message_bytes: largest answer accepted, in bytes.
    """

    __pydantic_config__ = STRICT

    address: str
    deadline_seconds: float = 5.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    tls: TlsConfig | None = None
    bearer_token: str | None = field(default=None, repr=False)
    connections: int = 16
    max_message_bytes: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.address.strip() or any(letter.isspace() for letter in self.address):
            raise ValueError(f"address {self.address!r}: host:port or http://host:port is accepted")
        if self.transport is Transport.GRPC and ":" not in self.address:
            raise ValueError(f"address {self.address!r}: a port is missing, as in host:8500")
        if not 0 < self.deadline_seconds < math.inf:
            raise ValueError(
                f"deadline_seconds {self.deadline_seconds}: a number above 0 is accepted"
            )
        if self.connections < 1:
            raise ValueError(f"connections {self.connections}: at least 1 is accepted")
        # gRPC counts them in 32 bits.
        if not 1 <= self.max_message_bytes < 2**31:
            raise ValueError(
                f"max_message_bytes {self.max_message_bytes}: 1 to {2**31 - 1} is accepted"
            )
        if self.tls is not None and self.address.startswith("http://"):
            raise ValueError("tls: https:// is accepted with it, found http://")
        if self.bearer_token is not None:
            self._check_token(self.bearer_token)
        if self.transport is Transport.REST:
            self._check_url()

    @property
    def transport(self) -> Transport:
        """REST for http:// and https://, gRPC for the rest."""
        return Transport.REST if self.address.startswith(REST_SCHEMES) else Transport.GRPC

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the server is one of this machine, by its address."""
        return _THIS_MACHINE.fullmatch(self.address) is not None

    def _check_url(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.address)
            is_base = bool(parts.hostname) and not parts.query and not parts.fragment
            # Reading the port checks it.
            is_base &= parts.port != 0
        except ValueError:
            is_base = False
        if not is_base:
            raise ValueError(f"address {self.address!r}: http://host:port is accepted")

    def _check_token(self, token: str) -> None:
        if not token or not token.isascii() or any(c.isspace() for c in token):
            raise ValueError("bearer_token: ASCII text without spaces is accepted")
        secure = self.tls is not None or self.address.startswith("https://")
        if not secure and not self.is_of_this_machine:
            raise ValueError(
                f"bearer_token: would go to {self.address} in clear text; give tls or https://"
            )
