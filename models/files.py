"""Writing small files so that a reader never sees half of one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import tensorflow as tf


def write_json(path: str, value: Any) -> None:
    """Writes ``value`` as indented JSON under a temporary name, then renames it."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
    tf.io.gfile.rename(temporary, path, overwrite=True)
