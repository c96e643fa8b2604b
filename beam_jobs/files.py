"""Files that take their name once they are complete, on any file system Beam knows."""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

from beam_jobs.errors import InputError

TEMPORARY = ".tmp"
STAGING = ".staging-"
OLD = ".old"


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Opens a file for writing that replaces ``path`` when the block ends without an error.

    The temporary name is its own for each attempt, so that a worker that was given up on and
    its replacement do not write into one file.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    temporary = f"{path}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
    try:
        with FileSystems.create(temporary) as stream:
            yield stream
        FileSystems.rename([temporary], [path])
    except BaseException as error:
        with suppress(OSError):
            FileSystems.delete([temporary])
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            # A failed write, of a full disk for one, does not say which file it was.
            raise OSError(error.errno, error.strerror, path) from error
        raise


def remove_temporary(folder: str) -> None:
    """Removes what attempts that were killed left in a folder."""
    for match in FileSystems.match([FileSystems.join(folder, f"*{TEMPORARY}")]):
        left = [metadata.path for metadata in match.metadata_list]
        if left:
            FileSystems.delete(left)


def listing(folder: str) -> list[str]:
    """Returns the paths of what lies in a folder."""
    pattern = FileSystems.join(folder, "*")
    return [m.path for match in FileSystems.match([pattern]) for m in match.metadata_list]


def full_path(path: str, *, what: str) -> str:
    """Returns a path that does not depend on the working folder, on links or on a last slash.

    Raises:
        InputError: Beam would take the path for a pattern; the message says ``what`` it is of.
    """
    if any(character in path for character in "*?["):
        raise InputError(f"{what} {path!r}: a path without *, ? and [ is accepted")
    return path.rstrip("/") if _is_remote(path) else str(Path(path).resolve())


def content(folder: str) -> list[str]:
    """Returns the names of all files and folders in a folder; none if there is no such folder.

    Raises:
        InputError: it is a file.
    """
    if _is_remote(folder):
        [match] = FileSystems.match([FileSystems.join(folder, "**")])
        return [metadata.path.removeprefix(f"{folder}/") for metadata in match.metadata_list]
    if not os.path.exists(folder):
        return []
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: a folder is expected, found a file")
    return sorted(os.listdir(folder))


@contextmanager
def staging(target: str) -> Iterator[str]:
    """Makes a folder beside ``target`` to write into; it is removed unless it took that name.

    Where files can be locked, so are these folders, and those that a process left which was
    killed are removed first.

    Args:
        target: what :func:`full_path` returned.
    """
    folder = f"{target}{STAGING}{uuid.uuid4().hex[:8]}"
    if _is_remote(target):
        try:
            yield folder
        finally:
            # An object store has no folders, so ask for what lies under the name.
            if FileSystems.exists(folder) or content(folder):
                FileSystems.delete([folder])
        return
    _remove_abandoned(Path(target))
    os.makedirs(folder)
    with _lock(folder):
        try:
            yield folder
        finally:
            if os.path.exists(folder):
                FileSystems.delete([folder])


def put_in_place(staged: str, target: str, last: Collection[str]) -> None:
    """Gives a complete folder its name; what was there is removed only after that.

    Args:
        staged: the complete folder.
        target: its name to be.
        last: names of the files that say that a folder is complete; on an object store, where
            only single files can be renamed, they are moved last.
    """
    if _is_remote(target):
        [match] = FileSystems.match([FileSystems.join(staged, "**")])
        files = sorted(
            (metadata.path for metadata in match.metadata_list),
            key=lambda path: (path.rsplit("/", 1)[-1] in last, path),
        )
        FileSystems.rename(files, [target + path.removeprefix(staged) for path in files])
        return
    if not os.path.exists(target):
        FileSystems.rename([staged], [target])
        return
    old = f"{staged}{OLD}"
    with _lock(target):
        FileSystems.rename([target], [old])
        FileSystems.rename([staged], [target])
        FileSystems.delete([old])


def _is_remote(path: str) -> bool:
    return "://" in path


def _remove_abandoned(target: Path) -> None:
    """Removes what a killed process left beside ``target``, or gives it back what was there."""
    ours = re.compile(f"{re.escape(target.name + STAGING)}[0-9a-f]{{8}}({re.escape(OLD)})?")
    for left in target.parent.glob(f"{target.name}{STAGING}*"):
        # What cannot be locked or removed, being another user's, does not stop this one.
        with _lock(str(left)) as free, suppress(OSError):
            if not free or not ours.fullmatch(left.name):
                continue
            if left.name.endswith(OLD) and not target.exists():
                left.rename(target)
            else:
                FileSystems.delete([str(left)])


@contextmanager
def _lock(folder: str) -> Iterator[bool]:
    """Locks a folder; the kernel frees it however the process ends. False if it cannot be."""
    with ExitStack() as stack:
        try:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError:
            locked = False
        yield locked
