"""The client against the embedded server, which speaks with the stubs of tensorflow-serving-api."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.cli import main
from serving.client import Client
from serving.client_support.config import ClientConfig, TlsConfig
from serving.client_support.errors import ServingError, StatusCode
from serving.client_support.results import ModelTarget
from serving.deploy.write import read_version
from serving.protocol.tf_examples import serialize
from serving.server.config import ModelSource, VersionPolicy
from tests.serving.servers import Running, running
from tests.serving.tiny_models import copy_version, write_version

MIXED = {
    "ids": np.array([1, 2]),
    "values": np.float32([[0.5, 1.5], [4, 0.25]]),
    "names": ["a", "é".encode()],
}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    copy_version(write_version(folder, 1, factor=2.0), folder, 2)
    return folder


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    source = ModelSource(
        name="tiny", path=str(versions), policy=VersionPolicy(all=True), labels={"stable": 1}
    )
    with running([source], versions={"allow_labels_for_unavailable": True}) as found:
        yield found


@pytest.fixture(params=["grpc", "rest"])
def address(server: Running, request: pytest.FixtureRequest) -> str:
    grpc, rest = server.ports.grpc, server.ports.rest
    return f"127.0.0.1:{grpc}" if request.param == "grpc" else f"http://127.0.0.1:{rest}"


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(ClientConfig(address=address, deadline_seconds=60)) as opened:
        yield opened


def test_predict_brings_back_every_type(client: Client) -> None:
    result = client.predict("tiny", MIXED, signature_name="mixed")

    np.testing.assert_array_equal(result.outputs["total"], np.float32([4, 8.25]))
    assert result.outputs["ids"].tolist() == [1, 2]
    assert result.outputs["ids"].dtype == np.int64
    assert result.outputs["raw_bytes"].tolist() == [b"a", "é".encode()]
    flags = np.array([[True, False]])
    outputs = client.predict("tiny", {"flags": flags}, signature_name="flags").outputs
    for name, dtype in (("double", "f8"), ("int32", "i4"), ("uint8", "u1"), ("bool", "?")):
        assert outputs[name].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(outputs[name], flags)


def test_a_single_output_keeps_its_name(client: Client) -> None:
    outputs = client.predict("tiny", {"x": np.float32([0.1, -3])}).outputs

    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], np.float32([0.1, -3]) * np.float32(2))


def test_examples_are_classified_and_regressed(client: Client) -> None:
    examples = [serialize({"x": 0.25}), {"x": 0.75}]

    classified = client.classify("tiny", examples)
    regressed = client.regress("tiny", examples)

    np.testing.assert_allclose(classified.scores_of("yes"), [0.25, 0.75])
    np.testing.assert_allclose(classified.scores_of("no"), [0.75, 0.25])
    np.testing.assert_allclose(regressed.values, [0.5, 1.5])


def test_versions_and_labels_are_reached(client: Client) -> None:
    for target in (ModelTarget(name="tiny", version=1), ModelTarget(name="tiny", label="stable")):
        result = client.predict(target, {"x": np.float32([1])})
        assert result.answered.version in (1, None)
        assert client.metadata(target).version == 1
    assert client.metadata("tiny").version == 2
    assert client.status("tiny").available == (2, 1)
    assert client.status(ModelTarget(name="tiny", version=1)).available == (1,)


def test_metadata_is_that_of_the_file(client: Client, versions: Path) -> None:
    metadata = client.metadata("tiny")

    assert tuple(sorted(metadata.signatures)) == read_version(versions / "2").signatures
    mixed = metadata.signature("mixed")
    assert mixed.inputs["values"].dtype == "DT_FLOAT"
    assert mixed.inputs["values"].shape == (-1, -1)
    assert metadata.signature("classify").method_name == "tensorflow/serving/classify"


def test_what_the_server_refuses_is_told_with_its_code(client: Client) -> None:
    for target, inputs, code, word in (
        (ModelTarget(name="other"), {"x": np.float32([1])}, StatusCode.NOT_FOUND, "other"),
        (
            ModelTarget(name="tiny", version=7),
            {"x": np.float32([1])},
            StatusCode.NOT_FOUND,
            "7",
        ),
        (
            ModelTarget(name="tiny"),
            {"z": np.float32([1])},
            StatusCode.INVALID_ARGUMENT,
            "x",
        ),
        (ModelTarget(name="tiny"), {"x": ["text"]}, StatusCode.INVALID_ARGUMENT, "x"),
    ):
        with pytest.raises(ServingError) as caught:
            client.predict(target, inputs)
        assert caught.value.code is code, str(caught.value)
        assert word in caught.value.message
        assert caught.value.attempts == 1


def test_rows_are_scored_and_a_load_is_sent(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"x": number / 4}) + "\n" for number in range(10)))
    call = [str(rows), "--host", address, "--model", "tiny", "--deadline", "60"]

    assert main(["score", *call, "--signature", "serving_default", "--batch-size", "3"]) == 0
    scored = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["y"] for row in scored] == [number / 2 for number in range(10)]

    figures = tmp_path / "load.json"
    timing = ["--rate", "20", "--duration", "1", "--warmup", "0", "--arrivals", "even"]
    load = ["loadtest", *call, "--signature", "serving_default", *timing]
    assert main([*load, "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())["outcomes"] == {"OK": 20}


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of its own for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ranker.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ranker.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def test_tls_with_client_certificates_and_a_token(versions: Path, tmp_path: Path) -> None:
    cert, key = (str(path) for path in write_certificate(tmp_path))
    token = tmp_path / "token"
    token.write_text("secret-of-a-test\n")
    security = {"certificate": cert, "key": key, "client_ca": cert, "token_file": str(token)}
    whole = TlsConfig(ca_file=cert, cert_file=cert, key_file=key, server_name="ranker.test")

    with running(versions, security=security, wait=True) as server:
        for address in (
            f"127.0.0.1:{server.ports.grpc}",
            f"https://127.0.0.1:{server.ports.rest}",
        ):
            good = ClientConfig(
                address=address, tls=whole, bearer_token="secret-of-a-test", deadline_seconds=60
            )
            with Client(good) as client:
                outputs = client.predict("tiny", {"x": np.float32([2])}).outputs
                assert outputs["y"].tolist() == [4]
            other = ClientConfig(
                address=address, tls=whole, bearer_token="another", deadline_seconds=60
            )
            with Client(other) as client, pytest.raises(ServingError) as caught:
                client.status("tiny")
            assert caught.value.code is StatusCode.UNAUTHENTICATED
            nameless = TlsConfig(ca_file=cert, server_name="ranker.test")
            for tls in (nameless, TlsConfig(ca_file=cert, cert_file=cert, key_file=key)):
                config = ClientConfig(
                    address=address, tls=tls, bearer_token="secret-of-a-test", deadline_seconds=5
                )
                with Client(config) as client, pytest.raises(ServingError) as caught:
                    client.status("tiny")
                assert caught.value.code in (
                    StatusCode.UNAVAILABLE,
                    StatusCode.DEADLINE_EXCEEDED,
                )
