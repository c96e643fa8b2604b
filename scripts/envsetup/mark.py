"""The completion mark: what an environment was built from, written last."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from envsetup.common import REQUIREMENTS, ROOT, VENV

# Raise it when a change in this folder makes existing environments wrong.
RECIPE = "1"

COMPLETE = ".complete"
IN_PROGRESS = ".in-progress"


def fingerprint(lock: Path, base_python: str, libc: tuple[int, int]) -> dict[str, str]:
    """What the environment depends on; `base` asks for a rebuild, `packages` for a sync."""
    base = hashlib.sha256()
    where = f"{RECIPE}|{VENV}|{ROOT}|{base_python}|{libc}|{platform.machine()}"
    for part in (where, requirement_text(REQUIREMENTS / "tools.lock")):
        base.update(part.encode() + b"\0")
    packages = hashlib.sha256()
    for path in (lock, REQUIREMENTS / "build.lock", ROOT / "setup.py"):
        packages.update(requirement_text(path).encode() + b"\0")
    return {"base": base.hexdigest(), "packages": packages.hexdigest()}


def requirement_text(path: Path) -> str:
    """A file without its comments: resolving again may change only those."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def read_mark(venv: Path) -> dict[str, str]:
    """The completion mark, or nothing when it is absent, unreadable or a sync was cut short."""
    if (venv / IN_PROGRESS).exists():
        return {}
    try:
        mark = json.loads((venv / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def write_mark(venv: Path, mark: Mapping[str, str]) -> None:
    """Written whole or not at all."""
    partial = venv / (COMPLETE + ".partial")
    partial.write_text(json.dumps(dict(mark), indent=1), encoding="utf-8")
    os.replace(partial, venv / COMPLETE)


def check_only() -> int:
    """0 if the environment that runs this file is up to date. Called by setup.sh, so it is fast."""
    mark = read_mark(VENV)
    if not mark:
        return 1
    lock = REQUIREMENTS / f"py{sys.version_info[0]}{sys.version_info[1]}.lock"
    base_python = mark.get("python", "")
    if not lock.is_file() or not Path(base_python).exists():
        return 1
    host_libc = tuple(int(part) for part in mark.get("glibc", "0.0").split("."))
    now = fingerprint(lock, base_python, (host_libc[0], host_libc[1]))
    return 0 if all(mark.get(key) == value for key, value in now.items()) else 1
