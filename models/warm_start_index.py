"""Where an exported model keeps what a later training starts from, read without TensorFlow."""

from __future__ import annotations

import json
import os
from typing import Any

FOLDER = os.path.join("assets.extra", "lengthwise_warm_start")
INDEX_FILE = "index.json"
WEIGHTS_FILE = "weights.npz"


LEDGER_FILE = "id_ledger.parquet"


class WarmStartError(ValueError):
    """A model that a training cannot start from."""


def ledger_path(model: str) -> str:
    """Returns where a model keeps the ledger of ids, if its index has the digest of one."""
    return os.path.join(model, FOLDER, LEDGER_FILE)


def read_index(model: str) -> dict[str, Any]:
    """Reads what a model says of its weights, its vocabularies' tables and its data.

    Args:
        model: folder of the SavedModel.

    Raises:
        WarmStartError: the folder is no model that keeps them.
    """
    path = os.path.join(model, FOLDER, INDEX_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            index: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        raise WarmStartError(
            f"train.warm_start {model}: there is no readable {os.path.join(FOLDER, INDEX_FILE)}; "
            "none, latest or the folder of a model that Lengthwise exported is accepted"
        ) from error
    return index
