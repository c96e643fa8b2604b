"""Widths of embedding tables, by rule or by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.config import ModelConfig

# Widths by rule are multiples of it.
WIDTH_STEP = 4


def table_widths(config: ModelConfig, entries: Mapping[str, int]) -> dict[str, int]:
    """Returns the width of the embeddings of each table.

    A name in ``embedding_dims`` has the width that stands there. Under ``embedding_dim_rule`` c
    any other table of n entries has ``c * n^0.25``, rounded to a multiple of four, at least four
    and at most ``embedding_dim``. Otherwise the width is ``embedding_dim``.

    Args:
        config: the ``model`` section.
        entries: rows of each table, without padding and unknown.
    """
    return {
        name: config.embedding_dims.get(name) or _by_rule(config, count)
        for name, count in entries.items()
    }


def separate_tables(config: ModelConfig) -> dict[str, Any]:
    """Returns keys of the ``model`` section that give the same categories tables of their own.

    Transform depends on these tables and not on their widths, so they are all the same here: a
    change of a width leaves the transformed examples as they are.
    """
    is_ruled = config.embedding_dim_rule is not None
    return {
        "embedding_dims": dict.fromkeys(config.embedding_dims, 1),
        "embedding_dim_rule": 1.0 if is_ruled else None,
    }


def _by_rule(config: ModelConfig, count: int) -> int:
    if config.embedding_dim_rule is None:
        return config.embedding_dim
    wanted = config.embedding_dim_rule * max(count, 1) ** 0.25
    steps = max(round(wanted / WIDTH_STEP), 1)
    return min(steps * WIDTH_STEP, config.embedding_dim)
