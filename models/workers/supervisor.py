"""Starts this worker's training process and watches over it and over the other workers.

The watching process knows nothing of TensorFlow, whose own messages about a lost worker come late
and name neither the cause nor, at times, the worker.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.progress_lines import progress
from models.workers.board import Board, Sign, State, Training
from models.workers.cluster import TF_CONFIG, Cluster
from models.workers.errors import WorkerError, first_words
from models.workers.process import OUTCOME_FILE, PROGRESS_FILE, PULSE_FILE, TRAINING_FILE
from models.workers.stall import ABSENT_SECONDS, SILENT_SECONDS, Pulse, StallWatch

BEAT_SECONDS = 1.0
JOIN_SECONDS = 40.0
# What a killed process has to end in; one that waits for a hung file system cannot.
END_SECONDS = 10.0

# Errors of TensorFlow that may follow from the end of another worker.
FOLLOWING_ERRORS = (
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "InternalError",
    "UnavailableError",
    "UnknownError",
)
# Errors whose whole text is meant for people.
CLEAR_ERRORS = (
    "TrainingError",
    "CheckpointError",
    "UnreadableCheckpointError",
    "WarmStartError",
    "WorkerError",
)

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


class PeerWatch:
    """Finds out which of the other workers has failed, gone or never come.

    Args:
        board: where they show their signs.
        training: id of the training.
        cluster: the workers.
        clock: seconds.
    """

    def __init__(
        self, board: Board, training: str, cluster: Cluster, clock: Clock = time.monotonic
    ) -> None:
        self._board = board
        self._training = training
        self._cluster = cluster
        self._clock = clock
        # The chief tells the others what it finds out.
        peers = range(1, len(cluster.addresses)) if cluster.is_chief else range(1)
        self._began = self._looked = clock()
        self._changed = dict.fromkeys(peers, self._began)
        self._last: dict[int, Sign | None] = dict.fromkeys(peers)

    def pulses(self) -> dict[int, Pulse]:
        """Returns what the other workers that still train said last."""
        return {
            index: sign.pulse
            for index, sign in self._last.items()
            if sign is not None and sign.state is State.RUNNING
        }

    def fault(self) -> str | None:
        """Says which worker is lost and why, or nothing."""
        self._leave_out_absence()
        for index in self._changed:
            fault = self._fault_of(index)
            if fault:
                return fault
        return None

    def _leave_out_absence(self) -> None:
        """Counts no silence while this process stood still: what stopped it may stop the others.

        Such as the shared file system, or whoever stops all processes of a machine.
        """
        now = self._clock()
        absence, self._looked = now - self._looked, now
        if absence < ABSENT_SECONDS:
            return
        self._began += absence
        self._changed = {index: when + absence for index, when in self._changed.items()}

    def _fault_of(self, index: int) -> str | None:
        now, sign, name = self._clock(), self._board.sign(index), self._cluster.name(index)
        last = self._last[index]
        if sign is not None and sign.training == self._training:
            if sign.state is State.FAILED:
                return sign.reason
            if sign != last:
                self._last[index], self._changed[index] = sign, now
            if sign.state is State.DONE:
                return None
        elif sign is not None and last is not None:
            # What it shows by now came after this training.
            done = last.state is State.DONE
            return None if done else f"{name} has ended this training; its log says why"
        if self._last[index] is None:
            if now - self._began < JOIN_SECONDS:
                return None
            return (
                f"{name} has not joined within {JOIN_SECONDS:.0f} s; `lengthwise worker CONFIG "
                f"--index {index}` must run there and see {self._board.folder}"
            )
        if now - self._changed[index] < SILENT_SECONDS:
            return None
        return f"{name} has given no sign of life for {SILENT_SECONDS:.0f} s"


def supervise(training: Training, cluster: Cluster, board: Board) -> Any:
    """Trains this worker's share and returns the result.

    Raises:
        WorkerError: this worker or another one failed; it is named, with the reason.
    """
    scratch = Path(tempfile.mkdtemp(prefix="lengthwise-worker-"))
    child = None
    try:
        board.show(cluster.index, Sign(training=training.id, state=State.RUNNING))
        child = _start(training, cluster, scratch)
        result = _watch(child, training, cluster, board, scratch)
    except BaseException as error:
        own = f"{cluster.name(cluster.index)}: {str(error) or type(error).__name__}"
        reason = str(error) if isinstance(error, WorkerError) else own
        board.show(cluster.index, Sign(training=training.id, state=State.FAILED, reason=reason))
        raise
    finally:
        if child is not None:
            _end(child)
        shutil.rmtree(scratch, ignore_errors=True)
    board.show(cluster.index, Sign(training=training.id, state=State.DONE))
    return result


def _start(training: Training, cluster: Cluster, scratch: Path) -> subprocess.Popen[bytes]:
    content = {"target": training.target, "arguments": training.arguments}
    (scratch / TRAINING_FILE).write_text(json.dumps(content), encoding="utf-8")
    top = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [top, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "models.workers.process", str(scratch)],
        # Its end tells the process that this one has gone.
        stdin=subprocess.PIPE,
        env={
            **os.environ,
            TF_CONFIG: cluster.tf_config,
            "PYTHONPATH": path,
            "TMPDIR": str(scratch),
            "TF_USE_LEGACY_KERAS": "1",
        },
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.kill()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        logger.warning("training process %d was killed and has not ended yet", child.pid)
    assert child.stdin is not None
    child.stdin.close()


def _watch(
    child: subprocess.Popen[bytes],
    training: Training,
    cluster: Cluster,
    board: Board,
    scratch: Path,
) -> Any:
    watch = PeerWatch(board, training.id, cluster)
    # The chief sees all workers, and so speaks first.
    limit = training.stall_seconds + (0 if cluster.is_chief else SILENT_SECONDS)
    stall = StallWatch(cluster, limit)
    position = 0

    def beat() -> None:
        nonlocal position
        pulse = _read_pulse(scratch / PULSE_FILE)
        board.show(cluster.index, Sign(training=training.id, state=State.RUNNING, pulse=pulse))
        position = _forward_progress(scratch / PROGRESS_FILE, position)
        fault = watch.fault() or stall.fault({**watch.pulses(), cluster.index: pulse})
        if fault:
            raise WorkerError(fault)
        time.sleep(BEAT_SECONDS)

    while child.poll() is None:
        beat()
    # What it reported after the last look.
    _forward_progress(scratch / PROGRESS_FILE, position)
    outcome = _outcome(scratch, child.returncode)
    if "error" not in outcome:
        return outcome["result"]
    if not outcome["own"]:
        # TensorFlow gives up a process that is stopped; it can say nothing itself.
        silent = stall.silent()
        if silent:
            raise WorkerError(silent)
        # The other worker's own words tell more than what its end did to this one.
        deadline = time.monotonic() + SILENT_SECONDS + BEAT_SECONDS
        while time.monotonic() < deadline:
            beat()
    raise WorkerError(f"{cluster.name(cluster.index)}: {outcome['error']}")


def _outcome(scratch: Path, code: int) -> dict[str, Any]:
    try:
        outcome = json.loads((scratch / OUTCOME_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        # TensorFlow aborts a process that has lost the others.
        return {"error": f"its training process ended {how}", "own": code != -signal.SIGABRT}
    if "error" in outcome:
        outcome["own"] = outcome["type"] not in FOLLOWING_ERRORS
        if outcome["type"] not in CLEAR_ERRORS:
            outcome["error"] = f"{outcome['type']}: {first_words(outcome['error'])}"
    return dict(outcome)


def _read_pulse(path: Path) -> Pulse:
    try:
        return Pulse(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Pulse()


def _forward_progress(path: Path, position: int) -> int:
    """Passes on what the training process reported; returns how much of the file was read."""
    if not path.exists():
        return position
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                break
            position += len(line)
            record = json.loads(line)
            progress.info(record["message"], extra=record["values"])
    return position
