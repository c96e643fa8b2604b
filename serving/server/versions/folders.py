"""Which versions a model's folder holds, and which of them are to be served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving.server.config import VersionPolicy

# Largest number that the API's messages hold.
_MAX_VERSION = 2**63 - 1


def find_versions(folder: Path) -> dict[int, Path]:
    """Returns the numbered folders in ``folder`` by number.

    Everything else there is ignored: a pusher keeps what is not complete under another name.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.isascii() and path.name.isdigit() and path.is_dir():
            number = int(path.name)
            # 7 goes before 007.
            if number <= _MAX_VERSION and (number not in found or path.name == str(number)):
                found[number] = path
    return found


def aspired_versions(found: Mapping[int, Path], policy: VersionPolicy) -> set[int]:
    """Returns the numbers that a policy wants served, of those that are there."""
    if policy.specific:
        return set(policy.specific) & set(found)
    if policy.latest is not None:
        return set(sorted(found, reverse=True)[: policy.latest])
    return set(found)
