"""TLS, client certificates and the bearer token, on both ports."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tensorflow_serving.apis import prediction_service_pb2_grpc

from schemas.loading import ConfigError
from serving.server.config import SecurityConfig
from serving.server.errors import Code, ServingError
from serving.server.grpc_api.health import HealthCheckRequest, HealthCheckResponse
from serving.server.security import TokenGuard, grpc_credentials, http_context
from tests.serving.servers import Running, predict_request, running

PREDICT = "/v1/models/tiny:predict"
TOKEN = "a-secret-of-many-characters"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """Self-signed certificates of a server and of two clients."""
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_pair(folder, name) for name in ("server", "client", "stranger")}


def make_pair(folder: Path, name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pair


@pytest.fixture(scope="module")
def secured(versions: Path, pairs: dict[str, Pair]) -> Iterator[Running]:
    security = {
        "certificate": str(pairs["server"].certificate),
        "key": str(pairs["server"].key),
        "client_ca": str(pairs["client"].certificate),
    }
    with running(versions, security=security) as server:
        yield server


def grpc_predict(server: Running, server_pair: Pair, client: Pair | None) -> list[float]:
    credentials = grpc.ssl_channel_credentials(
        server_pair.certificate.read_bytes(),
        client.key.read_bytes() if client else None,
        client.certificate.read_bytes() if client else None,
    )
    with grpc.secure_channel(f"localhost:{server.ports.grpc}", credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(predict_request({"x": [1.0]}), timeout=10)
    return list(response.outputs["y"].float_val)


def http_tls(server_pair: Pair, client: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server_pair.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def test_a_client_with_a_certificate_is_served(secured: Running, pairs: dict[str, Pair]) -> None:
    assert grpc_predict(secured, pairs["server"], pairs["client"]) == [2.0]
    assert secured.rest(
        "POST",
        PREDICT,
        {"instances": [1.0]},
        tls=http_tls(pairs["server"], pairs["client"]),
    ) == (200, {"predictions": [2.0]})


@pytest.mark.parametrize("client", [None, "stranger"])
def test_a_client_without_the_right_certificate_is_not(
    secured: Running, pairs: dict[str, Pair], client: str | None
) -> None:
    pair = pairs[client] if client else None

    with pytest.raises(grpc.RpcError) as caught:
        grpc_predict(secured, pairs["server"], pair)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secured.rest("GET", "/v1/models/tiny", tls=http_tls(pairs["server"], pair))


def test_plain_text_is_not_understood(secured: Running) -> None:
    with pytest.raises(grpc.RpcError):
        secured.predict({"x": [1.0]}, timeout=5)
    with pytest.raises((ConnectionError, OSError)):
        secured.rest("GET", "/v1/models/tiny")


def test_a_handshake_that_does_not_come_holds_no_connection(
    versions: Path, pairs: dict[str, Pair]
) -> None:
    security = {
        "certificate": str(pairs["server"].certificate),
        "key": str(pairs["server"].key),
    }
    with (
        running(versions, wait=False, security=security, limits={"header_seconds": 0.2}) as server,
        socket.create_connection(("127.0.0.1", server.ports.rest), timeout=20) as silent,
    ):
        assert silent.recv(1) == b""


@pytest.fixture(scope="module")
def guarded(versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN + "\n")
    with running(versions, security={"token_file": str(token)}) as server:
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_the_token_opens_both_ports(guarded: Running) -> None:
    request = predict_request({"x": [1.0]})
    metadata = tuple(bearer(TOKEN).items())

    response = guarded.prediction.Predict(request, timeout=20, metadata=metadata)

    assert list(response.outputs["y"].float_val) == [2.0]
    answer = guarded.rest("POST", PREDICT, {"instances": [1.0]}, headers=bearer(TOKEN))
    assert answer == (200, {"predictions": [2.0]})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
    ],
)
def test_without_the_token_nothing_is_answered(guarded: Running, headers: dict[str, str]) -> None:
    calls: list[tuple[Any, Any]] = [
        (guarded.prediction.Predict, predict_request({"x": [1.0]})),
        (
            guarded.channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus"),
            b"",
        ),
    ]
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20, metadata=tuple(headers.items()))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert TOKEN not in caught.value.details()

    for method, path in (
        ("POST", PREDICT),
        ("GET", "/v1/models/tiny"),
        ("GET", "/monitoring/prometheus/metrics"),
    ):
        status, answer = guarded.rest(method, path, {"instances": [1.0]}, headers=headers)
        assert status == 401
        assert TOKEN not in answer["error"]


def test_health_needs_no_token(guarded: Running) -> None:
    check = guarded.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )

    assert check(HealthCheckRequest(), timeout=20).status == 1
    assert guarded.rest("GET", "/healthz")[0] == 200


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("\n")

    with pytest.raises(ConfigError, match="token_file"):
        TokenGuard(SecurityConfig(token_file=str(token)))


def test_a_token_that_is_no_ascii_is_compared_all_the_same(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("schlüssel")
    guard = TokenGuard(SecurityConfig(token_file=str(token)))

    guard.check("Bearer schlüssel")
    with pytest.raises(ServingError) as caught:
        guard.check("Bearer schlussel")
    assert caught.value.code is Code.UNAUTHENTICATED


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")

    with pytest.raises(ConfigError, match="certificate"):
        http_context(SecurityConfig(certificate=str(broken), key=str(broken)))


def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(
    tmp_path: Path, pairs: dict[str, Pair]
) -> None:
    plain = serialization.load_pem_private_key(pairs["server"].key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    with pytest.raises(ConfigError, match=r"security\.key: .* without a passphrase"):
        http_context(
            SecurityConfig(certificate=str(pairs["server"].certificate), key=str(encrypted))
        )


def test_without_files_there_is_no_tls() -> None:
    assert http_context(SecurityConfig()) is None
    assert grpc_credentials(SecurityConfig()) is None
