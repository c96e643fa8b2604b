"""Numbered versions of a model in a folder that a model server watches.

A version appears whole or not at all: it is written under a staging name, which TensorFlow
Serving ignores because it is no number, flushed to disk and renamed. A lock on the folder keeps
pushes apart, so a staging folder that is found under the lock was left by a push that died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import PushFailed

# TensorFlow Serving reads its warm-up requests here and nothing else.
EXTRA_FOLDER = "assets.extra"
WARMUP_FILE = "tf_serving_warmup_requests"
FINGERPRINT_FILE = "lengthwise_fingerprint.json"
STAGING_PREFIX = ".staging-"
LOCK_FILE = ".lengthwise.lock"
LOCK_TIMEOUT_SECONDS = 300.0

_MODEL_FILE = "saved_model.pb"
# Largest number that TensorFlow Serving reads.
_MAX_VERSION = 2**63 - 1
_LOCK_POLL_SECONDS = 0.2
_BLOCK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Version:
    """A complete version.

    Attributes:
        number: its number, the name of the folder.
        path: the folder.
        fingerprint: fingerprint of the trained model it was made from; empty if it was not
            pushed by Lengthwise.
    """

    number: int
    path: Path
    fingerprint: str


def fingerprint(model: Path) -> str:
    """Returns a hash of all files below ``model``: their relative paths and their bytes."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        name = path.relative_to(model).as_posix().encode("utf-8")
        digest.update(f"{len(name)}:{path.stat().st_size}:".encode())
        digest.update(name)
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def read_versions(destination: Path) -> list[Version]:
    """Returns the complete versions in a folder by number; anything else there is ignored."""
    versions = [
        Version(number=number, path=path, fingerprint=_read_fingerprint(path))
        for number, path in _numbered(destination)
        if (path / _MODEL_FILE).is_file()
    ]
    return sorted(versions, key=lambda version: version.number)


def push(model: Path, destination: Path, record: dict[str, Any]) -> tuple[Version, bool]:
    """Writes a model as the next version, unless the newest one is that model.

    A server looks at a version once, so warm-up requests that the newest version lacks make a
    version of their own.

    Args:
        model: folder of the SavedModel to write.
        destination: folder of versions; made if it is not there.
        record: JSON content of the fingerprint file; its key ``fingerprint`` identifies the
            model.

    Returns:
        The version, and whether it was written just now.

    Raises:
        PushFailed: the model is none, the lock is held, or the disk does not take it. Versions
            that were there before are untouched.
    """
    if not (model / _MODEL_FILE).is_file():
        raise PushFailed(f"{model}: not a SavedModel, there is no {_MODEL_FILE}")
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with _locked(destination):
            _remove_staging(destination)
            # Only the newest one serves: a model that an older version holds is pushed anew, also
            # where the newest number is of something that a server cannot load.
            highest = max((number for number, _ in _numbered(destination)), default=0)
            newest = read_versions(destination)[-1:]
            if (
                newest
                and newest[0].number == highest
                and _holds(newest[0], model, record["fingerprint"])
            ):
                return newest[0], False
            return _write(model, destination, highest + 1, record), True
    except OSError as error:
        state = "there is no space left" if error.errno in _FULL else error.strerror or error
        kept = read_versions(destination) if destination.is_dir() else []
        last = f"version {kept[-1].number} is untouched" if kept else "no version was there before"
        raise PushFailed(f"push to {destination}: {state}; {last}") from error


def _holds(version: Version, model: Path, fingerprint: str) -> bool:
    has_warmup = [(path / EXTRA_FOLDER / WARMUP_FILE).is_file() for path in (version.path, model)]
    return version.fingerprint == fingerprint and has_warmup != [False, True]


def _write(model: Path, destination: Path, number: int, record: dict[str, Any]) -> Version:
    staging = destination / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
    try:
        _copy(model, staging)
        extra = staging / EXTRA_FOLDER
        extra.mkdir(exist_ok=True)
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        (extra / FINGERPRINT_FILE).write_text(text, encoding="utf-8")
        _flush(staging)
        path = destination / str(number)
        os.rename(staging, path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _flush_folder(destination)
    return Version(number=number, path=path, fingerprint=record["fingerprint"])


@contextlib.contextmanager
def _locked(destination: Path) -> Iterator[None]:
    with (destination / LOCK_FILE).open("w") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PushFailed(
                        f"push to {destination}: another push has held {LOCK_FILE} for "
                        f"{LOCK_TIMEOUT_SECONDS:.0f} s"
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
        yield


def _remove_staging(destination: Path) -> None:
    for path in destination.glob(f"{STAGING_PREFIX}*"):
        _LOG.warning("removing %s, left by a push that did not finish", path)
        shutil.rmtree(path)


def _numbered(destination: Path) -> list[tuple[int, Path]]:
    """What has a version's number for a name: folders, and what else may be in their place."""
    named = [path for path in destination.iterdir() if path.name.isascii() and path.name.isdigit()]
    return [(int(path.name), path) for path in named if int(path.name) <= _MAX_VERSION]


def _read_fingerprint(version: Path) -> str:
    try:
        content = json.loads((version / EXTRA_FOLDER / FINGERPRINT_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    found = content.get("fingerprint") if isinstance(content, dict) else None
    return found if isinstance(found, str) else ""


def _copy(source: Path, target: Path) -> None:
    """Copies a folder; shutil.copytree would go on after an error, and hide its number."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
