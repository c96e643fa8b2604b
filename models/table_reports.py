"""What a training summary says of tables: ids, collisions, and the cost of rounding."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from models.config import TablePrecision
from models.hashing import COLLISIONS_FILE
from models.id_ledger import REPORT_FILE
from models.progress_lines import say
from models.ranker import Ranker
from models.ranker_factory import RankerFactory
from models.table_storage import rounded_tables
from models.training import TrainingLoop
from models.warm_start_index import LEDGER_FILE
from schemas import features


def id_reports(transform_graph: str) -> dict[str, Any]:
    """Returns ``id_ledger`` and ``hash_collisions`` beside a Transform graph, None where absent."""
    return {
        "id_ledger": _read_json(os.path.join(transform_graph, REPORT_FILE)),
        "hash_collisions": _read_json(os.path.join(transform_graph, COLLISIONS_FILE)),
    }


def find_ledger(transform_graph: str) -> str:
    """Returns the ledger of ids beside a Transform graph; empty if there is none."""
    path = os.path.join(transform_graph, LEDGER_FILE)
    return path if os.path.exists(path) else ""


def rounding_cost(
    factory: RankerFactory, ranker: Ranker, validation_files: Sequence[str]
) -> dict[str, Any]:
    """Scores the validation split with the tables as the export keeps them, and as trained.

    Returns:
        ``tables``, the precision; and if it is not float32 the metrics with both, and
        ``auc_cost``: how much AUC the rounding takes.
    """
    precision = factory.train.export_tables
    if precision is TablePrecision.FLOAT32:
        return {"tables": precision.value}
    loop = TrainingLoop(factory, [], ranker=ranker)
    trained = loop.evaluate(validation_files, features.VALIDATION_SPLIT)
    with rounded_tables(ranker.embeddings, precision):
        rounded = loop.evaluate(validation_files, features.VALIDATION_SPLIT)
    cost = trained["auc"] - rounded["auc"]
    say(
        f"tables are exported as {precision.value}: validation AUC {rounded['auc']:.6f}, "
        f"{trained['auc']:.6f} with float32 ones, a cost of {cost:.6f}"
    )
    return {
        "tables": precision.value,
        "validation": rounded,
        "validation_float32": trained,
        "auc_cost": cost,
    }


def _read_json(path: str) -> Any:
    """Reads a file that only some runs have."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)
