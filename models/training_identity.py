"""What identifies a training, so that only its own checkpoints are gone on from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.plan import RunConfig
from models.ranker_factory import RankerFactory
from models.warm_start_index import read_index

# Keys of the train section that change nothing in the weights.
_FREE_KEYS = ("checkpoint_minutes", "workers", "stall_minutes")


def training_identity(
    config: RunConfig,
    factory: RankerFactory,
    files: Sequence[str],
    vocabularies: Mapping[str, Sequence[bytes]],
    *,
    warm_start: str | None,
) -> dict[str, Any]:
    """Works out what identifies a training, as nested plain values.

    Examples are known by the paths, sizes and times of their files: reading all of a large log
    would take longer than what a checkpoint saves.

    Args:
        config: the run.
        factory: makes its ranker.
        files: all its transformed examples.
        vocabularies: entries by name, in the order of their indices.
        warm_start: folder of the model it starts from, if any.
    """
    plain = json.loads(json.dumps(config.plain))
    for name in _FREE_KEYS:
        plain["train"].pop(name, None)
    profile = factory.profile.to_json() if factory.profile else ""
    return {
        **plain,
        "examples": _digest("\n".join(_describe_file(file) for file in files).encode()),
        "vocabularies": {
            name: {"entries": len(entries), "content": _digest(b"\n".join(entries))}
            for name, entries in vocabularies.items()
        },
        "profile": _digest(profile.encode()),
        "warm_start": read_index(warm_start)["weights_digest"] if warm_start else "",
        "devices": factory.strategy.num_replicas_in_sync,
        "tensorflow": tf.__version__,
    }


def _describe_file(path: str) -> str:
    found = os.stat(path)
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
