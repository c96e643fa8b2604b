"""Weights of a ranker on disk, with what they belong to beside them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import tensorflow as tf

from models.files import write_json
from models.ranker import Ranker
from schemas.loading import to_plain

DESCRIPTION_SUFFIX = ".ranker.json"

# Characters of a value in a message.
LONGEST_VALUE = 200

_ABSENT = "nothing"


class CheckpointError(ValueError):
    """A checkpoint that does not belong to a ranker."""


def write_checkpoint(ranker: Ranker, path: str) -> None:
    """Writes the weights of a ranker, and what they belong to.

    Args:
        ranker: built.
        path: prefix of the checkpoint's files.
    """
    tf.train.Checkpoint(ranker=ranker).write(path)
    write_json(path + DESCRIPTION_SUFFIX, describe(ranker))


def read_checkpoint(ranker: Ranker, path: str) -> None:
    """Gives a ranker the weights of a checkpoint.

    Args:
        ranker: built as the one that was written.
        path: prefix of the checkpoint's files.

    Raises:
        CheckpointError: the ranker that was written had another configuration, other inputs or
            other vocabularies, or is not described. The ranker keeps its weights.
    """
    name = path + DESCRIPTION_SUFFIX
    if not tf.io.gfile.exists(name):
        raise CheckpointError(f"checkpoint {path}: it needs {name}, which is not there")
    with tf.io.gfile.GFile(name) as file:
        written = json.load(file)
    differences = list_differences(written, json.loads(json.dumps(describe(ranker))))
    if differences:
        raise CheckpointError(
            f"checkpoint {path} is of another ranker: {'; '.join(differences)}; train anew, or "
            "go back to what it was written with"
        )
    tf.train.Checkpoint(ranker=ranker).read(path).assert_existing_objects_matched()


def describe(ranker: Ranker) -> dict[str, Any]:
    """Returns what decides the weights of a ranker and what it computes with them."""
    model = to_plain(ranker.config)
    del model["length_groups"]  # nothing that a ranker computes depends on it
    profile = ranker.profile
    return {
        "model": model,
        "inputs": dataclasses.asdict(ranker.plan),
        "table_rows": {
            name: rows for table in ranker.embeddings for name, rows in table.sizes.items()
        },
        "profile": None
        if profile is None
        else {
            name: getattr(profile, name)
            for name in ("length_mean", "length_std", "samples_per_item")
        },
    }


def list_differences(saved: Any, wanted: Any, name: str = "") -> list[str]:
    """Lists by dotted key where two nested plain values differ."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        prefix = f"{name}." if name else ""
        return [
            line
            for key in sorted({*saved, *wanted})
            for line in list_differences(
                saved.get(key, _ABSENT), wanted.get(key, _ABSENT), prefix + key
            )
        ]
    if saved == wanted:
        return []
    return [f"{name} is {_short(saved)} there, {_short(wanted)} here"]


def _short(value: Any) -> str:
    text = value if value is _ABSENT else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
