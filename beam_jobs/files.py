"""Files that take their name once they are complete, on any file system Beam knows."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

TEMPORARY = ".tmp"


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


def put_in_place(staging: str, target: str, last: Collection[str]) -> None:
    """Gives a complete folder its name; what was there is removed only after that.

    Args:
        staging: the complete folder.
        target: its name to be.
        last: names of the files that say that a folder is complete; on an object store, where
            only single files can be renamed, they are moved last.
    """
    if "://" in target:
        [match] = FileSystems.match([FileSystems.join(staging, "**")])
        files = sorted(
            (metadata.path for metadata in match.metadata_list),
            key=lambda path: (path.rsplit("/", 1)[-1] in last, path),
        )
        FileSystems.rename(files, [target + path.removeprefix(staging) for path in files])
        return
    old = f"{staging}.old"
    if FileSystems.exists(target):
        FileSystems.rename([target], [old])
    FileSystems.rename([staging], [target])
    if FileSystems.exists(old):
        FileSystems.delete([old])
