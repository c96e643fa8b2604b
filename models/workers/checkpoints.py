"""Checkpoints of a training on several workers: the chief writes, all read."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.checkpoints import CheckpointError
from models.training_checkpoints import (
    PREFIX,
    SavedCheckpoint,
    TrainingCheckpoints,
    UnreadableCheckpointError,
)
from models.workers.errors import WorkerError
from models.workers.group import WorkerGroup

GENERATORS_FILE = "generators.npy"
_GENERATORS = "generators"

logger = logging.getLogger(__name__)


class WorkerCheckpoints(TrainingCheckpoints):
    """The same folder seen from every worker.

    Random generators differ by worker, and the state that the chief writes has its own alone, so
    those of all workers are gathered into a file beside it.

    Every worker must make the same calls in the same order. Saving reads variables that are
    summed over the workers, so all take part in it.

    Args:
        folder: on a file system that all workers share.
        identity: see :class:`TrainingCheckpoints`.
        group: the workers.
    """

    def __init__(self, folder: str, identity: Mapping[str, Any], group: WorkerGroup) -> None:
        super().__init__(folder, identity)
        self._group = group
        self._states = np.zeros([0, 0], np.int64)

    def save(
        self,
        values: Mapping[str, Any],
        progress: Mapping[str, Any],
        *,
        where: str,
        pinned: Collection[str] = (),
    ) -> str:
        """Writes a checkpoint, where this is the chief; returns its name in every worker."""
        name = ""
        own = [variable.numpy() for variable in self._generator_states(values)]
        if own:
            gathered = self._group.gather(np.concatenate(own))
            self._states = gathered.reshape(-1, len(own[0]))
        if self._group.is_chief:
            name = super().save(values, progress, where=where, pinned=pinned)
        else:
            scratch = tempfile.mkdtemp()
            try:
                tf.train.Checkpoint(**values).write(f"{scratch}/state")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        return self._name_of_chief(name)

    def newest(self) -> SavedCheckpoint | None:
        """Returns the newest complete checkpoint that the chief sees.

        Raises:
            CheckpointError: in the chief alone, if it cannot be gone on from.
            WorkerError: in another worker, if it does not see what the chief goes on from: it must
                not start afresh beside it.
        """
        if not self._group.is_chief:
            name = self._name_of_chief("")
            try:
                return self.find(name) if name else None
            except (CheckpointError, OSError) as error:
                raise WorkerError(
                    f"the chief goes on from {name}, which cannot be read here: {error}; all "
                    "workers need the same file system under run.root, at the same path"
                ) from error
        try:
            saved = super().newest()
        except CheckpointError:
            self._name_of_chief("")
            raise
        self._name_of_chief(saved.path.name if saved else "")
        return saved

    def restore(self, saved: SavedCheckpoint, values: Mapping[str, Any], *, partly: bool) -> None:
        """Reads a checkpoint into objects, and this worker's own random states.

        Raises:
            UnreadableCheckpointError: objects and checkpoint do not fit, or its bytes are
                damaged.
        """
        super().restore(saved, values, partly=partly)
        own, path = self._generator_states(values), saved.path / GENERATORS_FILE
        if not own or not path.exists():
            return
        try:
            states = np.load(path)
        except (OSError, ValueError) as error:
            raise UnreadableCheckpointError(saved.path, str(error)) from error
        if len(states) != len(own) * self._group.count:
            logger.warning(
                "%s has random states of %d devices, found %d workers of %d: all go on with the "
                "chief's, so the training does not repeat one that was not interrupted",
                path,
                len(states),
                self._group.count,
                len(own),
            )
            return
        for variable, state in zip(own, states[len(own) * self._group.index :], strict=False):
            variable.assign(state)

    def discard(self, path: Path) -> None:
        """Removes one checkpoint, where this is the chief."""
        if self._group.is_chief:
            super().discard(path)

    def remove(self) -> None:
        """Removes all checkpoints, where this is the chief."""
        if self._group.is_chief:
            super().remove()

    def _add_files(self, staging: Path) -> None:
        if len(self._states):
            np.save(staging / GENERATORS_FILE, self._states)

    def _generator_states(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns the state variables of this worker's devices, generator by generator."""
        return [
            variable
            for generator in values.get(_GENERATORS, ())
            for variable in self._group.local(generator.state)
        ]

    def _name_of_chief(self, name: str) -> str:
        (number,) = self._group.from_chief([float(name.removeprefix(PREFIX) or 0)])
        return f"{PREFIX}{int(number):06d}" if number else ""
