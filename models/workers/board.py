"""What the workers of a training tell each other through files in a folder that all can read.

- ``training.json``: what is to be trained; the chief writes it when its Trainer begins;
- ``sign-<index>.json``: rewritten about once a second by the process that watches a worker's
  training, with its state; a file that no longer changes is of a worker that has gone.

Only changes count, never times: clocks of machines differ, and a file may be of yesterday.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.workers.stall import Pulse
from schemas.writing import write_text

# Folder of a run, in its root.
FOLDER = "workers"
TRAINING_FILE = "training.json"


class State(str, enum.Enum):
    """What a worker does."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be trained.

    Attributes:
        id: differs from training to training.
        addresses: of the workers, the chief first.
        target: ``package.module.function``, called by every worker as described in
            :mod:`models.workers.process`.
        arguments: plain values for it.
        stall_seconds: how long it may not get on before it is given up.
    """

    id: str
    addresses: tuple[str, ...]
    target: str
    arguments: dict[str, Any]
    stall_seconds: float


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Sign of life of a worker.

    Attributes:
        training: id of the training; empty for a run that has ended without one.
        state: what it does.
        reason: why it failed.
        pulse: what its training process said last.
        beat: another one in every sign.
    """

    training: str
    state: State
    reason: str = ""
    pulse: Pulse = dataclasses.field(default_factory=Pulse)
    beat: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


class Board:
    """Reads and writes these files.

    Args:
        folder: on a file system that all workers share.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def announce(self, training: Training) -> None:
        """Publishes what is to be trained."""
        _write(self.folder / TRAINING_FILE, dataclasses.asdict(training))

    def training(self) -> Training | None:
        """Returns what is to be trained, if anything."""
        values = _read(self.folder / TRAINING_FILE)
        if values is None:
            return None
        return Training(**{**values, "addresses": tuple(values["addresses"])})

    def show(self, index: int, sign: Sign) -> None:
        """Publishes the sign of a worker."""
        _write(self.folder / f"sign-{index}.json", dataclasses.asdict(sign))

    def sign(self, index: int) -> Sign | None:
        """Returns the last sign of a worker, if there is one."""
        values = _read(self.folder / f"sign-{index}.json")
        if values is None:
            return None
        pulse = Pulse(**values.get("pulse", {}))  # a sign of an earlier release has none
        return Sign(**{**values, "state": State(values["state"]), "pulse": pulse})

    def close(self) -> None:
        """Tells workers that still wait that the run has ended; others have gone by then."""
        self.show(0, Sign(training="", state=State.DONE))


def _read(path: Path) -> dict[str, Any] | None:
    for is_last in (False, False, True):
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return values
        except FileNotFoundError:
            return None
        except OSError as error:
            # NFS forgets a file that another machine replaces between opening and reading it.
            if error.errno != errno.ESTALE or is_last:
                raise
    return None


def _write(path: Path, values: dict[str, Any]) -> None:
    write_text(path, json.dumps(values))
