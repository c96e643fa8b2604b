"""TLS and the bearer token."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from schemas.loading import ConfigError
from serving.server.config import SecurityConfig
from serving.server.errors import Code, ServingError

_SCHEME = "bearer "


class TokenGuard:
    """Refuses calls that do not show the token, if there is one."""

    def __init__(self, config: SecurityConfig):
        """Reads the token.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        self._token: bytes | None = None
        if config.token_file is not None:
            self._token = _read(config.token_file, "token_file").strip()
            if not self._token:
                raise ConfigError("security.token_file: a token is expected, found an empty file")

    def check(self, authorization: str) -> None:
        """Checks the value of an ``authorization`` header.

        Raises:
            ServingError: UNAUTHENTICATED.
        """
        if self._token is None:
            return
        scheme, shown = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        right = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != _SCHEME or not right:
            raise ServingError(
                Code.UNAUTHENTICATED, "authorization: the server's bearer token is expected"
            )

    def check_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Checks the metadata of a gRPC call.

        Raises:
            ServingError: UNAUTHENTICATED.
        """
        if self._token is None:
            return
        values = [value for key, value in metadata if key == "authorization"]
        self.check(str(values[0]) if values else "")


def grpc_credentials(config: SecurityConfig) -> grpc.ServerCredentials | None:
    """Returns TLS credentials for gRPC, or None without TLS.

    Raises:
        ConfigError: a file cannot be read.
    """
    if config.certificate is None or config.key is None:
        return None
    authorities = None if config.client_ca is None else _read(config.client_ca, "client_ca")
    return grpc.ssl_server_credentials(
        [(_read(config.key, "key"), _read(config.certificate, "certificate"))],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )


def http_context(config: SecurityConfig) -> ssl.SSLContext | None:
    """Returns a TLS context for HTTP, or None without TLS.

    Raises:
        ConfigError: a file is not what it should be.
    """
    if config.certificate is None or config.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate, config.key, password=_refuse_to_ask)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        # The error does not quote the key.
        raise ConfigError(
            f"security: certificate, key or client_ca cannot be used: {error}"
        ) from error
    return context


def _refuse_to_ask() -> str:
    # Without this, OpenSSL asks for a passphrase at the terminal and waits for ever.
    raise ConfigError(
        "security.key: a key without a passphrase is expected, found an encrypted one"
    )


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"security.{name}: {path}: {error.strerror or error}") from error
