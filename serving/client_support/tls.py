"""Certificates and keys of a connection under TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator

from serving.client_support.config import TlsConfig


def tls_context(tls: TlsConfig | None) -> ssl.SSLContext:
    """Loads the files of a client; without any, the system's certificates.

    Raises:
        OSError: a file cannot be read, or is not what it should be; names it.
    """
    ca_file = tls.ca_file if tls is not None else None
    with _naming(f"ca_file {ca_file}"):
        context = ssl.create_default_context(cafile=ca_file)
    if tls is not None and tls.cert_file is not None:
        with _naming(f"cert_file {tls.cert_file}, key_file {tls.key_file}"):
            # With no password OpenSSL would ask whoever sits at the terminal for one.
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    return context


@contextlib.contextmanager
def _naming(files: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"tls: {files}: {error.strerror or error}") from error
