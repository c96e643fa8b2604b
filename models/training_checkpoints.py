"""Checkpoints that a killed training goes on from.

A folder holds ``checkpoint-<number>/``, each with

- ``state.*``: what :class:`tf.train.Checkpoint` writes of weights, optimiser and generators;
- ``progress.json``: where training stood, and the identity of what was trained;
- ``COMPLETE``: the sizes of the other files, written last.

One is written under a staging name, flushed to disk and renamed, so a folder of the final name
that lacks the marker, or a file of another size, was damaged later.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from models.checkpoints import CheckpointError, list_differences
from models.files import write_json

KEPT = 2
PREFIX = "checkpoint-"
STAGING_PREFIX = ".staging-"
STATE = "state"
PROGRESS_FILE = "progress.json"
MARKER_FILE = "COMPLETE"

# Differences that a message lists before it says how many more there are.
_LISTED = 6

logger = logging.getLogger(__name__)


class UnreadableCheckpointError(CheckpointError):
    """A complete checkpoint whose bytes are damaged, or that does not fit.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"checkpoint {path} cannot be read into this model: {reason}")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class SavedCheckpoint:
    """A complete checkpoint.

    Attributes:
        path: its folder.
        progress: plain values that were saved with it.
        identity: identity of what was trained.
        pinned: names of the older checkpoints that were pinned with it.
    """

    path: Path
    progress: dict[str, Any]
    identity: dict[str, Any]
    pinned: list[str]


class TrainingCheckpoints:
    """The checkpoints of one training: the last two, and those that were pinned with them.

    Args:
        folder: on a local or mounted file system; made when the first one is written.
        identity: nested plain values that must be equal for a checkpoint to be read: the
            resolved configuration, vocabularies, examples, code.
    """

    def __init__(self, folder: str, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(json.dumps(identity))

    def save(
        self,
        values: Mapping[str, Any],
        progress: Mapping[str, Any],
        *,
        where: str,
        pinned: Collection[str] = (),
    ) -> str:
        """Writes a checkpoint and removes those that are no longer wanted.

        Args:
            values: trackable objects by name.
            progress: plain values to save with them.
            where: step and epoch, for the message of an error.
            pinned: names of older checkpoints to keep; whoever goes on from this one needs them.

        Returns:
            Its name in the folder.

        Raises:
            CheckpointError: it cannot be written; older ones are untouched.
        """
        staging = self.folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_staging()
            staging.mkdir()
            tf.train.Checkpoint(**values).write(str(staging / STATE))
            content = {
                "progress": dict(progress),
                "identity": self.identity,
                "pinned": sorted(pinned),
            }
            write_json(str(staging / PROGRESS_FILE), content)
            self._add_files(staging)
            sizes = {path.name: path.stat().st_size for path in staging.iterdir()}
            _flush_files(staging)
            write_json(str(staging / MARKER_FILE), sizes)
            _flush_files(staging)
            number = max((_number(path) for path in self._folders()), default=0) + 1
            path = self.folder / f"{PREFIX}{number:06d}"
            os.rename(staging, path)
            _flush(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise CheckpointError(
                f"checkpoint at {where} cannot be written to {self.folder}: {_reason(error)}; "
                f"{self.describe_last()}"
            ) from error
        self._prune(path.name)
        return path.name

    def newest(self) -> SavedCheckpoint | None:
        """Returns the newest complete checkpoint, or nothing if there is none.

        Raises:
            CheckpointError: it cannot be gone on from: it is of another training, and the message
                lists what differs, or one that was pinned with it is damaged.
        """
        for path in self._folders():
            damage = find_damage(path)
            if damage:
                logger.warning("checkpoint %s is passed over: %s", path, damage)
                continue
            saved = _read(path)
            differences = list_differences(saved.identity, self.identity)
            if differences:
                raise CheckpointError(
                    f"checkpoint {path} is of another training: {_join(differences)}"
                )
            for name in saved.pinned:
                self.find(name)
            return saved
        return None

    def find(self, name: str) -> SavedCheckpoint:
        """Returns the checkpoint of that name.

        Raises:
            CheckpointError: it is not there, or damaged.
        """
        damage = find_damage(self.folder / name)
        if damage:
            raise CheckpointError(f"checkpoint {self.folder / name}: {damage}")
        return _read(self.folder / name)

    def restore(self, saved: SavedCheckpoint, values: Mapping[str, Any], *, partly: bool) -> None:
        """Reads a checkpoint into objects.

        Args:
            saved: the checkpoint.
            values: trackable objects by the names they were saved under.
            partly: whether the checkpoint may hold more than these.

        Raises:
            UnreadableCheckpointError: objects and checkpoint do not fit, or its bytes are
                damaged.
        """
        try:
            status = tf.train.Checkpoint(**values).read(str(saved.path / STATE))
            if partly:
                status.assert_existing_objects_matched().expect_partial()
            else:
                status.assert_consumed()
        except (AssertionError, ValueError, OSError, tf.errors.OpError) as error:
            raise UnreadableCheckpointError(saved.path, _reason(error)) from error

    def describe_last(self) -> str:
        """Says which good checkpoint there is."""
        for path in self._folders():
            if not find_damage(path):
                return f"the last good one is {path}"
        return "there is no earlier one"

    def discard(self, path: Path) -> None:
        """Removes one checkpoint."""
        shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Removes all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _add_files(self, staging: Path) -> None:
        """Writes what else a subclass keeps in a checkpoint."""

    def _folders(self) -> list[Path]:
        """Checkpoints, the newest first."""
        return sorted(self.folder.glob(f"{PREFIX}*"), key=_number, reverse=True)

    def _prune(self, newest: str) -> None:
        """Removes all but the last complete ones and those that were pinned with them."""
        complete = [path for path in self._folders() if not find_damage(path)]
        kept = [_read(path) for path in complete[:KEPT]]
        wanted = {newest, *(name for saved in kept for name in (saved.path.name, *saved.pinned))}
        for path in self._folders():
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)

    def _remove_staging(self) -> None:
        for path in self.folder.glob(f"{STAGING_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)


def find_damage(path: Path) -> str | None:
    """Says what is wrong with a checkpoint's files, or nothing."""
    try:
        sizes = json.loads((path / MARKER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"there is no readable {MARKER_FILE}"
    for name, size in sizes.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{name} has {'nothing' if found is None else found} of {size} bytes"
    return None


def _read(path: Path) -> SavedCheckpoint:
    content = json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))
    return SavedCheckpoint(
        path=path,
        progress=content["progress"],
        identity=content["identity"],
        pinned=content.get("pinned", []),  # an earlier release wrote none
    )


def _number(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX)
    return int(digits) if digits.isdigit() else 0


def _join(lines: list[str]) -> str:
    more = len(lines) - _LISTED
    return "; ".join(lines[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0][:300]


def _flush_files(folder: Path) -> None:
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
