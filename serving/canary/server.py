"""A model server outside the process, on free ports of this machine, for as long as it is needed.

TensorFlow Serving itself where it can be had, our own server anywhere else. Neither TensorFlow
Serving's program nor its Docker image was there to be run where this was written: their command
lines are tested against a stand-in.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.canary.config import ServerChoice
from serving.client import Client
from serving.client_support.config import ClientConfig, RetryConfig
from serving.client_support.errors import ServingError
from serving.client_support.results import ModelStatus, VersionState
from serving.deploy.config import IMAGE

MODEL_NAME = "canary"
PROGRAM = "tensorflow_model_server"
METRICS_PATH = "/monitoring/prometheus/metrics"

_MONITORING = f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'
_DOCKER_SECONDS = 10.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0
_LOG_CHARACTERS = 600
# What TensorFlow says of every start.
_NOISE = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl|.*failed call to cuInit")
# Below the ports that the kernel gives to outgoing connections, ours to the server among them.
_PORTS = range(20_000, 32_000)
# Ends the server when the canary's process ends, however it does: the pipe closes then.
_TIED = 'exec 3<&0 </dev/null; (cat <&3 >/dev/null; kill -TERM $$) & exec 3<&- "$@"'


class ServerFailed(Exception):
    """No server could be had, or it did not make the model available."""


@dataclass(frozen=True, kw_only=True)
class OutsideServer:
    """A server that answers.

    Attributes:
        kind: which server it is.
        grpc: its gRPC address.
        rest: its REST address.
    """

    kind: ServerChoice
    grpc: str
    rest: str

    def metrics(self) -> str:
        """Returns the metrics page."""
        # Without the proxy that the environment may name: the server is of this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.rest + METRICS_PATH, timeout=10) as answer:
            return str(answer.read().decode("utf-8"))


def choose_server(wanted: ServerChoice) -> ServerChoice:
    """Returns the server to start, one that this machine has.

    Raises:
        ServerFailed: the one that is asked for is not here.
    """
    if wanted in (ServerChoice.AUTO, ServerChoice.TENSORFLOW_SERVING):
        if shutil.which(PROGRAM):
            return ServerChoice.TENSORFLOW_SERVING
        if wanted is ServerChoice.TENSORFLOW_SERVING:
            raise ServerFailed(f"canary.server {wanted.value}: there is no {PROGRAM} on PATH")
    if wanted in (ServerChoice.AUTO, ServerChoice.DOCKER):
        if _has_image():
            return ServerChoice.DOCKER
        if wanted is ServerChoice.DOCKER:
            raise ServerFailed(
                f"canary.server {wanted.value}: no Docker daemon that has the image {IMAGE}"
            )
    return ServerChoice.EMBEDDED


@contextlib.contextmanager
def outside_server(
    versions: Path, work: Path, kind: ServerChoice, timeout_seconds: float
) -> Iterator[OutsideServer]:
    """Runs a server until the end of the block.

    Args:
        versions: folder with the one version to serve.
        work: folder for its log and settings.
        kind: which server, as :func:`choose_server` returns it.
        timeout_seconds: how long it may take until the version is available.

    Raises:
        ServerFailed: it ended, refused the model or took too long; says what it printed last.
    """
    grpc_port, rest_port = _free_ports(2)
    settings = work / "monitoring"
    settings.mkdir(parents=True)
    (settings / "monitoring.config").write_text(_MONITORING, encoding="utf-8")
    command = _command(kind, versions.resolve(), settings.resolve(), grpc_port, rest_port)
    log = work / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _TIED, "canary", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=_environment(),
            start_new_session=True,
        )
    server = OutsideServer(
        kind=kind, grpc=f"127.0.0.1:{grpc_port}", rest=f"http://127.0.0.1:{rest_port}"
    )
    try:
        _wait_until_available(server, process, log, timeout_seconds)
        yield server
    finally:
        _stop(process)


def _command(
    kind: ServerChoice, versions: Path, settings: Path, grpc_port: int, rest_port: int
) -> list[str]:
    name = f"--model_name={MODEL_NAME}"
    if kind is ServerChoice.DOCKER:
        return [
            # TensorFlow Serving does not heed SIGTERM as a container's first process, and would
            # be left behind; an init process ends with it, and the container with that.
            *("docker", "run", "--rm", "--pull=never", "--init"),
            *(f"--publish=127.0.0.1:{grpc_port}:8500", f"--publish=127.0.0.1:{rest_port}:8501"),
            f"--volume={versions}:/models/{MODEL_NAME}:ro",
            f"--volume={settings}:/settings:ro",
            # The image's own entry point sets the ports and the model's folder.
            f"--env=MODEL_NAME={MODEL_NAME}",
            *(IMAGE, "--monitoring_config_file=/settings/monitoring.config"),
        ]
    flags = [
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        name,
        f"--model_base_path={versions}",
    ]
    if kind is ServerChoice.TENSORFLOW_SERVING:
        return [PROGRAM, *flags, f"--monitoring_config_file={settings / 'monitoring.config'}"]
    return [sys.executable, "-m", "serving.canary.host", *flags]


def _environment() -> dict[str, str]:
    """The environment, with our packages where the server's process looks for them."""
    top = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(one for one in (top, os.environ.get("PYTHONPATH", "")) if one)
    return {**os.environ, "PYTHONPATH": path}


def _wait_until_available(
    server: OutsideServer, process: subprocess.Popen[bytes], log: Path, timeout_seconds: float
) -> None:
    end = time.monotonic() + timeout_seconds
    config = ClientConfig(address=server.rest, retry=RetryConfig(attempts=1), deadline_seconds=5)
    last = "nothing answered"
    with Client(config) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise ServerFailed(
                    f"the {server.kind.value} server ended with code {process.returncode}: "
                    f"{_tail(log)}"
                )
            try:
                status = client.status(MODEL_NAME)
            except ServingError as error:
                last = error.message
            else:
                if status.available:
                    return
                _check_not_refused(server, status)
                last = ", ".join(f"version {one.version} {one.state}" for one in status.versions)
            time.sleep(_POLL_SECONDS)
    raise ServerFailed(
        f"the {server.kind.value} server did not make the model available within "
        f"{timeout_seconds:g} s ({last}); it printed: {_tail(log)}"
    )


def _check_not_refused(server: OutsideServer, status: ModelStatus) -> None:
    for one in status.versions:
        if one.state is VersionState.END and one.error:
            raise ServerFailed(f"the {server.kind.value} server cannot load it: {one.error}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # The rest of its group: what waits for the pipe to close, and children of the server.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()


def _has_image() -> bool:
    if shutil.which("docker") is None:
        return False
    command: Sequence[str] = ("docker", "image", "inspect", IMAGE)
    try:
        done = subprocess.run(command, capture_output=True, timeout=_DOCKER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _free_ports(count: int) -> list[int]:
    """Returns ports that nothing listens on, different ones."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"no free ports between {_PORTS.start} and {_PORTS.stop - 1}")


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not _NOISE.match(line)]
    return " | ".join(lines[-3:])[-_LOG_CHARACTERS:] or "nothing"
