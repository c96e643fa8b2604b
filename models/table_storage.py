"""Embedding tables of an export in fewer bytes, and what a gather from them gives.

``int8`` keeps a row w as ``round(w / s)`` with a float32 scale ``s = max|w| / 127`` of its own, so
that no weight is off by more than s / 2; ``float16`` rounds each weight. The graph gathers the
stored rows first and makes float32 of these alone, so a request costs its own rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from models.config import TablePrecision
from models.embeddings import StackedEmbedding

LARGEST_INT8 = 127


class StoredTable(tf.Module):
    """A table as an export keeps it.

    Args:
        weights: float32 [rows, dim].
        precision: how they are kept.
    """

    def __init__(self, weights: np.ndarray, precision: TablePrecision) -> None:
        super().__init__(name="stored_table")
        self.scale: tf.Variable | None = None
        if precision is TablePrecision.INT8:
            scale = np.max(np.abs(weights), axis=1, initial=0.0) / LARGEST_INT8
            divisor = np.where(scale > 0, scale, 1.0)[:, np.newaxis]
            values = np.rint(weights / divisor).astype(np.int8)
            self.scale = tf.Variable(scale.astype(np.float32), trainable=False, name="scale")
        else:
            values = weights.astype(precision.value)
        self.values = tf.Variable(values, trainable=False, name="values")

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(weight.shape.num_elements() * weight.dtype.size for weight in self.variables)

    def gather(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns rows of the table, float32 [n, dim]."""
        values = tf.cast(tf.gather(self.values, rows), tf.float32)
        if self.scale is None:
            return values
        return values * tf.gather(self.scale, rows)[:, tf.newaxis]


@contextlib.contextmanager
def stored_tables(
    layers: Sequence[StackedEmbedding], precision: TablePrecision
) -> Iterator[list[StoredTable]]:
    """Lets layers read stored tables in place of their own, in graphs that are traced inside.

    Yields:
        The tables, in the order of the layers; none for float32.
    """
    if precision is TablePrecision.FLOAT32:
        yield []
        return
    tables = [StoredTable(layer.table.numpy(), precision) for layer in layers]
    for layer, table in zip(layers, tables, strict=True):
        layer.gather = table.gather
    try:
        yield tables
    finally:
        for layer in layers:
            layer.gather = None


@contextlib.contextmanager
def rounded_tables(layers: Sequence[StackedEmbedding], precision: TablePrecision) -> Iterator[None]:
    """Gives layers the weights that stored tables would give them, and then their own again."""
    originals = [layer.table.numpy() for layer in layers]
    try:
        for layer, weights in zip(layers, originals, strict=True):
            rows = tf.range(len(weights))
            layer.table.assign(StoredTable(weights, precision).gather(rows))
        yield
    finally:
        for layer, weights in zip(layers, originals, strict=True):
            layer.table.assign(weights)
