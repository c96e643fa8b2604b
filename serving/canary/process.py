"""Starts :mod:`serving.canary.reference` in a fresh process and reads what it found."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.canary.requests import CanaryRequest
from serving.protocol import messages
from serving.protocol.tensor_codec import decode_tensor, encode_tensor

_PROGRAM = Path(__file__).with_name("reference.py")
# Everything of Lengthwise; what a saved model needs must lie in the model.
_BLOCKED = ("beam_jobs", "benchmarks", "components", "models", "pipeline", "schemas", "serving")
_LOG_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the fresh process found.

    Attributes:
        unknown_ops: operations of the graph that TensorFlow does not have.
        python_ops: operations that call into the Python process that exported the model.
        load_error: why the model could not be loaded, if it could not.
        answers: outputs by name for each request in order, or the text of its error.
    """

    unknown_ops: Sequence[str]
    python_ops: Sequence[str]
    load_error: str | None
    answers: Sequence[Mapping[str, np.ndarray] | str]


class ReferenceProcess:
    """The process while it runs."""

    def __init__(self, model: Path, requests: Sequence[CanaryRequest], work: Path):
        """Starts it.

        Args:
            model: folder of the SavedModel.
            requests: what it scores.
            work: folder for its files.
        """
        self._log = work / "reference.log"
        self._result = work / "reference.result"
        job = work / "reference.job"
        content = {
            "model": str(model),
            "requests": [(request.signature, _encoded(request.inputs)) for request in requests],
            "blocked": _BLOCKED,
        }
        job.write_text(json.dumps(content), encoding="utf-8")
        # -I: neither PYTHONPATH nor this folder is on its path.
        command = [sys.executable, "-I", str(_PROGRAM), str(job), str(self._result)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=work,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            )

    def result(self, timeout_seconds: float) -> Reference:
        """Waits for the end of the process."""
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.close()
            return _failed(f"it took more than {timeout_seconds:g} s")
        if code != 0 or not self._result.is_file():
            printed = self._log.read_text(encoding="utf-8", errors="replace").strip()
            last = " | ".join(printed.splitlines()[-2:])[-_LOG_CHARACTERS:]
            return _failed(f"it ended with code {code}: {last}")
        values: dict[str, Any] = json.loads(self._result.read_text(encoding="utf-8"))
        return Reference(**{**values, "answers": [_decoded(one) for one in values["answers"]]})

    def close(self) -> None:
        """Ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _encoded(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {
        name: base64.b64encode(encode_tensor(name, array).SerializeToString()).decode("ascii")
        for name, array in arrays.items()
    }


def _decoded(answer: Mapping[str, str] | str) -> Mapping[str, np.ndarray] | str:
    if isinstance(answer, str):
        return answer
    try:
        return {
            name: decode_tensor(name, messages.TensorProto.FromString(base64.b64decode(text)))
            for name, text in answer.items()
        }
    except ValueError as error:
        return str(error)


def _failed(reason: str) -> Reference:
    return Reference(unknown_ops=(), python_ops=(), load_error=reason, answers=())
