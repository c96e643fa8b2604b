"""Columns of decoded examples."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def single_values(records: pa.RecordBatch, name: str) -> np.ndarray:
    """Returns a feature that every example holds exactly one value of, ``[rows]``.

    Args:
        records: decoded examples; each column is a list an example.
        name: the feature.

    Raises:
        ValueError: the feature is absent or some example holds none or several values.
    """
    column = records.column(name) if name in records.schema.names else None
    if column is None or column.null_count == len(column):
        raise ValueError(f"feature {name!r}: no example holds it, but every example must")
    if column.null_count or not np.all(np.diff(column.offsets.to_numpy()) == 1):
        raise ValueError(f"feature {name!r}: every example must hold exactly one value")
    return column.flatten().to_numpy(zero_copy_only=False)
