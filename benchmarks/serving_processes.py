"""What the serving benchmarks share: a server process, and requests to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.protocol import messages
from serving.protocol import tf_examples as client_examples

ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 600
_STOP_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server process.

    Attributes:
        address: host and port of gRPC.
        pid: its process id.
        name: name of its model.
    """

    address: str
    pid: int
    name: str

    def resident_mebibytes(self) -> float:
        """Returns the memory that the process holds."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"process {self.pid} is gone")


@contextlib.contextmanager
def serving(versions: Path, *settings: str) -> Iterator[Running]:
    """Runs a server on a folder of versions until the end of the block.

    Args:
        versions: folder of numbered versions.
        settings: values of ``--set``.
    """
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        command = [
            sys.executable,
            *("-m", "pipeline.cli", "serve", str(versions), "--name", "model"),
            *("--port", "0", "--rest-port", "0", "--ready-file", str(ready)),
        ]
        for setting in settings:
            command += ["--set", setting]
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ}
            )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not ready.is_file():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            port = json.loads(ready.read_text(encoding="utf-8"))["grpc_port"]
            yield Running(address=f"127.0.0.1:{port}", pid=process.pid, name="model")
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # It ends a warm-up under way first; the figures are there already.
                process.kill()
                process.wait()


def predict_requests(examples: Path, count: int, rows: int = 1) -> list[bytes]:
    """Returns serialized Predict requests with examples of a TFRecord file.

    Args:
        examples: the file.
        count: requests.
        rows: examples of each.
    """
    records = []
    for record in client_examples.read_records(examples):
        records.append(record)
        if len(records) == count * rows:
            break
    requests = []
    for start in range(0, len(records) - rows + 1, rows):
        request = messages.PredictRequest()
        request.model_spec.name = "model"
        tensor = request.inputs["examples"]
        tensor.dtype = messages.DATA_TYPES["DT_STRING"]
        tensor.tensor_shape.dim.add().size = rows
        tensor.string_val.extend(records[start : start + rows])
        requests.append(request.SerializeToString())
    return requests


def percentile(values: list[float], share: float) -> float:
    """Returns a percentile of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)]
