"""A client that is not ours: ovmsclient, in a process of its own.

It brings descriptions of the same messages along, which must not meet TensorFlow's in one process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.servers import running
from tests.serving.tiny_models import write_version

_SCRIPT = """
import sys
import numpy as np
import ovmsclient
from ovmsclient.tfs_compat.base import errors

grpc, rest = sys.argv[1:]
for client in (
    ovmsclient.make_grpc_client(f"127.0.0.1:{grpc}"),
    ovmsclient.make_http_client(f"127.0.0.1:{rest}"),
):
    state = client.get_model_status("tiny", 1)
    assert state[1]["state"] == "AVAILABLE", state
    assert "DT_FLOAT" in str(client.get_model_metadata("tiny", 1))
    answer = client.predict({"x": np.array([1.5, -2.0], np.float32)}, "tiny", 1)
    assert np.array_equal(answer, [3.0, -4.0]), answer
    for inputs, name, error in (
        ({"z": np.zeros(1, np.float32)}, "tiny", errors.InvalidInputError),
        ({"x": np.zeros(1, np.float32)}, "none", errors.ModelNotFoundError),
    ):
        try:
            client.predict(inputs, name, 1)
        except error:
            continue
        raise AssertionError(f"{name}: no error")
"""


def test_it_reads_state_and_metadata_and_predicts(tmp_path: Path) -> None:
    there = subprocess.run(
        [sys.executable, "-c", "import ovmsclient"], capture_output=True, check=False
    )
    if there.returncode:
        pytest.skip(f"needs ovmsclient, which {sys.executable} has not")
    write_version(tmp_path, 1)
    with running(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(server.ports.grpc), str(server.ports.rest)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert done.returncode == 0, done.stderr
