"""The process that trains: one worker's share, in a TensorFlow of its own.

    python -m models.workers.process FOLDER

A strategy over several workers must be made before TensorFlow does anything else, and in a run it
has already transformed the examples; so each worker trains in a new process. The folder holds
``training.json`` with ``target`` and ``arguments``; ``target(arguments, strategy, folder)`` is
called, and what it returns is written to ``outcome.json``, with an error to ``error``. Records of
the progress logger go to ``progress.jsonl``, and about once a second ``pulse.json`` says how far
it is. The process ends when its standard input does, and removes the folder then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import json
import logging
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from models.activity import activity
from models.progress_lines import log_to_stderr, progress
from models.workers.stall import Pulse
from schemas.writing import write_text

TRAINING_FILE = "training.json"
OUTCOME_FILE = "outcome.json"
PROGRESS_FILE = "progress.jsonl"
PULSE_FILE = "pulse.json"
PULSE_SECONDS = 1.0

# A worker whose port nobody can reach; one that never starts is noticed earlier, by its signs.
_CONNECT_SECONDS = 50
# Above the time after which its signs tell that a worker has gone: their message is clearer.
_HEARTBEAT_SECONDS = 50

logger = logging.getLogger(__name__)

_writing = threading.Lock()

_PROGRESS_VALUES = ("done", "advance", "total", "unit", "note", "line")


def make_workers_strategy() -> Any:
    """Makes the strategy over the workers in ``TF_CONFIG``; nothing of TensorFlow ran before."""
    import tensorflow as tf
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tasks = len(resolver.cluster_spec().as_dict()["worker"])
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=_CONNECT_SECONDS * 1000,
        heartbeat_timeout_in_ms=_HEARTBEAT_SECONDS * 1000,
        coordinated_jobs=[coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=tasks)],
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # Every worker has a share, which may be empty, of every batch.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


class _ProgressWriter(logging.Handler):
    """Writes progress as lines of JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Appends one record."""
        values = {key: record.__dict__[key] for key in _PROGRESS_VALUES if key in record.__dict__}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"message": record.getMessage(), "values": values}) + "\n")


def main(folder: Path) -> int:
    """Trains as ``training.json`` says."""
    threading.Thread(target=_end_with_parent, args=[folder], daemon=True).start()
    threading.Thread(target=_beat, args=[folder], daemon=True).start()
    log_to_stderr()
    progress.setLevel(logging.INFO)
    progress.addHandler(_ProgressWriter(folder / PROGRESS_FILE))
    training = json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    try:
        strategy = make_workers_strategy()
        module, _, function = training["target"].rpartition(".")
        target = getattr(importlib.import_module(module), function)
        result = target(training["arguments"], strategy, str(folder))
        _write_outcome(folder, {"result": result})
    except Exception as error:
        traceback.print_exc()
        _write_outcome(folder, {"error": str(error), "type": type(error).__name__})
        return 1
    _wait_for_others(strategy)
    return 0


def _wait_for_others(strategy: Any) -> None:
    """Returns when all workers have their results; who left earlier would break their last step."""
    from models.workers.group import WorkerGroup

    activity.begin("its end")
    try:
        WorkerGroup(strategy).from_chief([0.0])
    except Exception as error:
        # The others do not wait for this one to hear that it may go, and their end is an error to
        # TensorFlow. The result is written, and no step is left that needs them.
        logger.info("another worker has gone first: %s", type(error).__name__)


def _write_outcome(folder: Path, outcome: dict[str, Any]) -> None:
    write_text(folder / OUTCOME_FILE, json.dumps(outcome))


def _beat(folder: Path) -> None:
    for beats in itertools.count(1):
        pulse = Pulse(beats=beats, begun=activity.begun, doing=activity.doing)
        # A disk that is full is told by whoever writes what is needed.
        with _writing, contextlib.suppress(OSError):
            write_text(folder / PULSE_FILE, json.dumps(dataclasses.asdict(pulse)))
        time.sleep(PULSE_SECONDS)


def _end_with_parent(folder: Path) -> None:
    while sys.stdin.buffer.read(1):
        pass
    # Or a beat would make the folder anew.
    _writing.acquire(timeout=PULSE_SECONDS)
    # Whoever made it was killed, and cannot.
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the end of TensorFlow: its services would wait for those of the other workers.
    os._exit(code)
