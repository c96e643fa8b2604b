"""One run at a time for each run.root."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from schemas.writing import naming

LOCK_FILE = ".lock"


class LockedError(RuntimeError):
    """Another run holds the folder; the message says who."""


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Holds the lock of ``root``; the kernel frees it however the process ends.

    Raises:
        LockedError: another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / LOCK_FILE
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"{root} is in use by another run: {_holder(path)}") from error
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
        }
        with naming(path):
            stream.truncate(0)
            # Past the buffer, which would be written once more, and fail again, at the end.
            os.write(stream.fileno(), f"{json.dumps(holder)}\n".encode())
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return (
            f"process {holder['pid']} on {holder['host']}, since {holder['started']}: "
            f"{holder['command']}"
        )
    except (OSError, ValueError, KeyError):
        return "a process that has not said who it is yet"
