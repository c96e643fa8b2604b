"""The server's configuration: what is refused, and with what words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.loading import ConfigError, build
from serving.server.config import LogFormat, ModelSource, ServerConfig, VersionPolicy
from serving.server.versions.models_config import read_models_config


def test_the_defaults_are_loopback_and_one_version() -> None:
    config = build(ServerConfig, {}, where="test")

    assert config.listen.host == "127.0.0.1"
    assert config.policy.latest == 1
    assert config.security.certificate is None
    assert config.log is LogFormat.TEXT


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"listen": {"grpc_port": 70000}}, ["listen", "grpc_port", "70000"]),
        ({"listen": {"host": ""}}, ["listen", "host"]),
        ({"limits": {"concurrent_calls": 0}}, ["concurrent_calls", "1", "0"]),
        ({"limits": {"request_bytes": 1}}, ["request_bytes"]),
        ({"limits": {"body_seconds": 0}}, ["body_seconds"]),
        ({"batching": {"max_rows": 0}}, ["max_rows"]),
        ({"batching": {"timeout_micros": -1}}, ["timeout_micros", "-1"]),
        ({"versions": {"max_retry_seconds": 0.5}}, ["max_retry_seconds", "2"]),
        ({"versions": {"poll_seconds": 0}}, ["poll_seconds"]),
        ({"policy": {"latest": 0}}, ["latest"]),
        ({"policy": {"latest": 1, "all": True}}, ["one of them"]),
        ({"policy": {"specific": [-1]}}, ["specific", "-1"]),
        ({"security": {"certificate": "a.pem"}}, ["certificate", "key"]),
        ({"security": {"client_ca": "a.pem"}}, ["client_ca"]),
        ({"security": {"token_file": "/nowhere/token"}}, ["token_file", "/nowhere/token"]),
        ({"runtime": {"intra_op_threads": -1}}, ["intra_op_threads"]),
        ({"log": "xml"}, ["log", "xml"]),
        ({"batchin": {}}, ["batchin", "batching"]),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(ServerConfig, values, where="test")

    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(("name", "path"), [("", "/m"), ("a/b", "/m"), ("a:b", "/m"), ("a", "")])
def test_a_model_without_a_usable_name_or_path_is_refused(name: str, path: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        ModelSource(name=name, path=path)


def write(folder: Path, text: str) -> Path:
    path = folder / "models.config"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_models_file_says_what_to_serve(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        model_config_list {
          config {
            name: "a" base_path: "/models/a" model_platform: "tensorflow"
            model_version_policy { specific { versions: 3 versions: 5 } }
            version_labels { key: "stable" value: 3 }
          }
          config { name: "b" base_path: "/models/b" model_version_policy { all {} } }
          config {
            name: "c" base_path: "/models/c" model_version_policy { latest { num_versions: 2 } }
          }
          config { name: "d" base_path: "/models/d" }
        }
        """,
    )

    first, second, third, fourth = read_models_config(path)

    assert (first.name, first.path) == ("a", "/models/a")
    assert first.policy == VersionPolicy(specific=(3, 5))
    assert first.labels == {"stable": 3}
    assert second.policy == VersionPolicy(all=True)
    assert third.policy == VersionPolicy(latest=2)
    assert fourth.policy == VersionPolicy(latest=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_config_list {", ["ModelServerConfig"]),
        ("unknown: 1", ["ModelServerConfig", "unknown"]),
        ("", ["ModelConfigList"]),
        ('model_config_list { config { name: "a" base_path: "a" } }', ["a", "absolute"]),
        ('model_config_list { config { name: "a" base_path: "s3://b" } }', ["s3://b", "local"]),
        ('model_config_list { config { name: "a:b" base_path: "/b" } }', ["a:b"]),
        (
            'model_config_list { config { name: "a" base_path: "/b" model_platform: "torch" } }',
            ["torch", "tensorflow"],
        ),
        (
            'model_config_list { config { name: "a" base_path: "/b" } '
            'config { name: "a" base_path: "/c" } }',
            ["a", "multiple times"],
        ),
        (
            'model_config_list { config { name: "a" base_path: "/b" '
            "model_version_policy { specific {} } } }",
            ["a", "specific"],
        ),
    ],
)
def test_a_models_file_that_cannot_be_served_is_refused(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_models_config(write(tmp_path, text))

    assert all(word in str(caught.value) for word in words), caught.value


def test_a_models_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.config"):
        read_models_config(tmp_path / "none.config")
