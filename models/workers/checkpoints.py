"""Checkpoints of a training on several workers: the chief writes, all read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from models.checkpoints import CheckpointError
from models.training_checkpoints import PREFIX, SavedCheckpoint, TrainingCheckpoints
from models.workers.group import WorkerGroup


class WorkerCheckpoints(TrainingCheckpoints):
    """The same folder seen from every worker.

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
            CheckpointError: in the chief alone, if it is of another training.
        """
        if not self._group.is_chief:
            name = self._name_of_chief("")
            return self.find(name) if name else None
        try:
            saved = super().newest()
        except CheckpointError:
            self._name_of_chief("")
            raise
        self._name_of_chief(saved.path.name if saved else "")
        return saved

    def discard(self, path: Path) -> None:
        """Removes one checkpoint, where this is the chief."""
        if self._group.is_chief:
            super().discard(path)

    def remove(self) -> None:
        """Removes all checkpoints, where this is the chief."""
        if self._group.is_chief:
            super().remove()

    def _name_of_chief(self, name: str) -> str:
        (number,) = self._group.from_chief([float(name.removeprefix(PREFIX) or 0)])
        return f"{PREFIX}{int(number):06d}" if number else ""
