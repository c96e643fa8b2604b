"""``lengthwise serve`` as a process, and what it refuses before it starts one."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent import futures
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.commands import serve
from pipeline.exits import EXIT_BAD_INPUT
from serving.server.config import ModelSource, ServerConfig, VersionPolicy

PREDICT = "/v1/models/ranker:predict"
METRICS = "/monitoring/prometheus/metrics"
UNDER_WAY = "\n:lengthwise:serving:outstanding_calls 1\n"
ROOT = Path(__file__).resolve().parents[3]
_START_SECONDS = 200


def ask(port: int, path: str, body: bytes | None = None) -> str:
    """Calls REST with the token; returns the body of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Authorization": "Bearer a-secret"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def models_config(folder: Path, *names: str) -> str:
    """A file that serves one folder under several names."""
    models = "".join(f'config {{ name: "{name}" base_path: "{folder}" }} ' for name in names)
    return f"model_config_list {{ {models}}}"


def test_it_serves_until_it_is_told_to_stop_and_answers_the_call_under_way(tmp_path: Path) -> None:
    from tests.serving.tiny_models import write_version

    (tmp_path / "ranker").mkdir()
    write_version(tmp_path / "ranker", 4)
    ready, token, models = (tmp_path / name for name in ("ready.json", "token", "models.config"))
    token.write_text("a-secret")
    # A folder that is mistyped at first.
    models.write_text(models_config(tmp_path / "rankr", "ranker"))
    command = [
        *(sys.executable, "-m", "pipeline.cli", "serve", "--models-config", str(models)),
        *("--set", "versions.models_config_poll_seconds=0.2"),
        *("--port", "0", "--rest-port", "0", "--ready-file", str(ready)),
        *("--set", f"security.token_file={token}", "--set", "log=json"),
        *("--set", "versions.warm_without_requests=false"),
        # Keeps a lone call in the server for a while.
        *("--set", "batching.timeout_micros=4000000"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + _START_SECONDS
            assert process.stderr is not None
            warning = process.stderr.readline()
            while "rankr" not in warning:
                assert process.poll() is None
                warning = process.stderr.readline()
            models.write_text(models_config(tmp_path / "ranker", "ranker"))
            while not ready.is_file():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            found = json.loads(ready.read_text(encoding="utf-8"))
            models.write_text(models_config(tmp_path / "ranker", "ranker", "other"))
            while "AVAILABLE" not in ask(found["rest_port"], "/v1/models/other"):
                assert time.monotonic() < end
            with futures.ThreadPoolExecutor(1) as pool:
                call = pool.submit(ask, found["rest_port"], PREDICT, b'{"instances": [21.0]}')
                while UNDER_WAY not in ask(found["rest_port"], METRICS):
                    assert not call.done()
                assert not call.done()
                process.send_signal(signal.SIGTERM)
                assert json.loads(call.result(60)) == {"predictions": [42.0]}
            output, log = process.communicate(timeout=120)
        finally:
            process.kill()

    assert process.returncode == 0
    assert found["pid"] == process.pid
    assert f"gRPC 127.0.0.1:{found['grpc_port']}" in output
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any("serving ranker version 4" in line["message"] for line in lines)
    assert "a-secret" not in log
    assert "21.0" not in log


def test_it_stops_at_once_while_a_version_is_warmed(tmp_path: Path) -> None:
    from tests.serving.tiny_models import write_endless_version, write_version

    folder = tmp_path / "ranker"
    folder.mkdir()
    write_version(folder, 1)
    ready = tmp_path / "ready.json"
    ready.write_text("of an earlier run")
    command = [
        *(sys.executable, "-m", "pipeline.cli", "serve", str(folder), "--ready-file", str(ready)),
        *("--port", "0", "--rest-port", "0"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + _START_SECONDS
            for there in (True, False):
                while ready.is_file() is there:
                    assert process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.05)
            port = json.loads(ready.read_text(encoding="utf-8"))["rest_port"]
            write_endless_version(folder, 2)
            while "LOADING" not in ask(port, "/v1/models/ranker"):
                assert time.monotonic() < end
            # By now it runs a signature that does not come back.
            time.sleep(1.0)
            assert json.loads(ask(port, PREDICT, b'{"instances": [21.0]}')) == {
                "predictions": [42.0]
            }
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 0, log
    assert "serving ranker version 1" in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["MODEL_DIR", "--models-config"]),
        (["/nowhere/at/all"], ["MODEL_DIR", "/nowhere/at/all"]),
        (["{model}"], ["SavedModel itself"]),
        (["{versions}", "--name", "a/b"], ["--name", "a/b"]),
        (["{versions}", "--port", "70000"], ["grpc_port", "70000"]),
        (["{versions}", "--set", "batching.max_row=3"], ["max_row", "max_rows"]),
        (["{versions}", "--config", "/nowhere/server.yaml"], ["/nowhere/server.yaml"]),
        (["{versions}", "--models-config", "/nowhere/models"], ["one of them"]),
        (["--models-config", "/nowhere/models"], ["/nowhere/models"]),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    (tmp_path / "versions" / "1").mkdir(parents=True)
    (tmp_path / "versions" / "1" / "saved_model.pb").touch()
    folders = {"model": tmp_path / "versions" / "1", "versions": tmp_path / "versions"}

    code = cli.main(["serve", *(each.format(**folders) for each in arguments)])

    assert code == EXIT_BAD_INPUT
    text = capsys.readouterr().err
    assert all(word in text for word in words), text


def test_a_folder_is_served_under_its_own_name_or_another(tmp_path: Path) -> None:
    (tmp_path / "ranker").mkdir()
    config = ServerConfig(policy=VersionPolicy(latest=2))
    given = argparse.Namespace(model=str(tmp_path / "ranker"), models_config=None, name=None)

    assert serve._sources(given, config) == (
        ModelSource(name="ranker", path=str(tmp_path / "ranker"), policy=VersionPolicy(latest=2)),
    )
    given.name = "other"
    assert [source.name for source in serve._sources(given, config)] == ["other"]


def test_help_names_what_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])

    assert "--ready-file" in capsys.readouterr().out
