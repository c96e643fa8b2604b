"""Configuration of the client: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.loading import ConfigError, build
from serving.client import Client
from serving.client_support.config import ClientConfig, RetryConfig, TlsConfig, Transport


@pytest.mark.parametrize(
    ("address", "transport"),
    [
        ("localhost:8500", Transport.GRPC),
        ("dns:///ranker-headless:8500", Transport.GRPC),
        ("http://localhost:8501", Transport.REST),
        ("https://models.example.org", Transport.REST),
        ("http://[::1]:8501/behind/", Transport.REST),
    ],
)
def test_the_address_says_the_protocol(address: str, transport: Transport) -> None:
    assert ClientConfig(address=address).transport is transport


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"address": ""}, "host:port"),
        ({"address": "two words:1"}, "host:port"),
        ({"address": "localhost"}, "a port is missing"),
        ({"deadline_seconds": 0}, "deadline_seconds 0"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds nan"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds inf"),
        ({"address": "http://"}, "address 'http://': http://host:port"),
        ({"address": "http://:8501"}, "address 'http://:8501'"),
        ({"address": "http://a:85010"}, "address 'http://a:85010'"),
        ({"address": "https://a:rest"}, "address 'https://a:rest'"),
        ({"address": "http://a:1?b"}, "address 'http://a:1.b'"),
        ({"connections": 0}, "connections 0"),
        ({"max_message_bytes": 0}, "max_message_bytes 0"),
        ({"max_message_bytes": 2**31}, "max_message_bytes 2147483648"),
        ({"retry": {"attempts": 0}}, "attempts 0"),
        ({"retry": {"first_backoff_seconds": 0}}, "first_backoff_seconds 0"),
        ({"retry": {"multiplier": 0.5}}, "multiplier 0.5"),
        ({"retry": {"max_backoff_seconds": 0.01}}, "max_backoff_seconds 0.01"),
        ({"tls": {"cert_file": "c.pem"}}, "give both or neither"),
        ({"address": "http://a:1", "tls": {}}, "https:// is accepted"),
        ({"bearer_token": ""}, "bearer_token: ASCII"),
        ({"bearer_token": "a\nb"}, "bearer_token: ASCII"),
        ({"address": "far.example.org:1", "bearer_token": "t"}, "in clear text"),
        ({"address": "http://far.example.org", "bearer_token": "t"}, "in clear text"),
        ({"address": "localhost.example.org:1", "bearer_token": "t"}, "in clear text"),
        ({"address": "127.example.org:1", "bearer_token": "t"}, "in clear text"),
        ({"address": "http://localhost@example.org", "bearer_token": "t"}, "in clear text"),
        ({"address": "dns://localhost/example.org:1", "bearer_token": "t"}, "in clear text"),
        ({"adress": "localhost:1"}, "did you mean 'address'"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(ClientConfig, {"address": "localhost:8500", **values}, where="client")


@pytest.mark.parametrize(
    "values",
    [
        {"address": "127.0.0.1:8500"},
        {"address": "[::1]:8500"},
        {"address": "unix:/run/ranker.sock"},
        {"address": "http://localhost:8501"},
        {"address": "https://far.example.org"},
        {"address": "far.example.org:8500", "tls": TlsConfig(ca_file="ca.pem")},
    ],
)
def test_a_token_goes_to_this_machine_or_under_tls(values: dict[str, Any]) -> None:
    assert ClientConfig(**values, bearer_token="secret").bearer_token == "secret"


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(ClientConfig(address="localhost:1", bearer_token="secret"))


@pytest.mark.parametrize("address", ["localhost:8500", "https://localhost:8501"])
def test_a_file_of_tls_that_cannot_be_used_is_named(address: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_text("no certificate")
    for file in (str(path), str(tmp_path / "nowhere.pem")):
        for tls in (TlsConfig(ca_file=file), TlsConfig(cert_file=file, key_file=file)):
            with pytest.raises(OSError, match=f"tls: (ca|cert)_file {file}"):
                Client(ClientConfig(address=address, tls=tls))


def test_one_attempt_is_no_retry() -> None:
    assert RetryConfig(attempts=1).attempts == 1
