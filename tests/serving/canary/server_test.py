"""Tests of how the canary's server is started and reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.canary.config import ServerChoice
from serving.canary.server import OutsideServer, ServerFailed, choose_server, outside_server
from tests.serving.fake_servers import http_server


def test_docker_ends_the_container_with_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = image ] && exit 0\necho "$@"\nexit 7\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    kind = choose_server(ServerChoice.DOCKER)

    with (
        pytest.raises(ServerFailed, match="ended with code 7: run --rm") as failed,
        outside_server(tmp_path / "versions", tmp_path / "work", kind, 20.0),
    ):
        pytest.fail("a server that ended")

    # As a container's first process TensorFlow Serving ignores SIGTERM.
    assert " --init " in str(failed.value)


def test_metrics_are_not_asked_for_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with http_server(lambda *_: (200, b"requests 3")) as address:
        server = OutsideServer(kind=ServerChoice.EMBEDDED, grpc="", rest=address)
        assert server.metrics() == "requests 3"
