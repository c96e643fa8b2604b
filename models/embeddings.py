"""Embedding tables of several vocabularies, one variable each group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from models.local_copy import local_copy


class UniqueRows(NamedTuple):
    """Rows of a table that a batch reads, each once.

    Attributes:
        rows: [unique + 1, dim]; the last row is zero and stands for padding.
        positions: for each tensor of ids that was looked up, where in ``rows`` they are.
    """

    rows: tf.Tensor
    positions: list[tf.Tensor]

    @property
    def padding(self) -> tf.Tensor:
        """Position of the row that stands for padding."""
        return tf.shape(self.rows)[0] - 1


class StackedEmbedding(tf.keras.layers.Layer):
    """The tables of several vocabularies, stacked in one variable.

    One gather and one sparse update serve all of them, where a variable each would cost an
    operation each. Every row a batch reads is gathered once, so the gradient holds no row twice
    and the optimiser touches no other row.

    Args:
        sizes: rows of each vocabulary, by name, in the order they are stacked.
        dim: width of an embedding.
        init_std: standard deviation of the normal that weights start from.

    Inputs:
        ids by call of :meth:`unique_rows`.
    """

    def __init__(self, sizes: Mapping[str, int], dim: int, init_std: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = dict(sizes)
        self.dim = dim
        self.init_std = init_std
        # Reads the rows in place of the table, where an export keeps them in another form.
        self.gather: Callable[[tf.Tensor], tf.Tensor] | None = None
        self.offsets: dict[str, int] = {}
        total = 0
        for name, size in self.sizes.items():
            self.offsets[name] = total
            total += size
        self.table = self.add_weight(
            name="table",
            shape=(total, dim),
            initializer=tf.keras.initializers.RandomNormal(stddev=init_std),
            trainable=True,
            experimental_autocast=False,
        )

    def unique_rows(self, ids: Sequence[tuple[str, tf.Tensor]]) -> UniqueRows:
        """Looks up ids.

        Args:
            ids: pairs of a vocabulary and int64 ids in it, [n] each.

        Returns:
            The rows in the compute type, and the position of each id in them.

        Raises:
            tf.errors.InvalidArgumentError: an id lies outside its vocabulary. Without this check
                it would read a row of the next one.
        """
        shifted = [self._checked(name, values) + self.offsets[name] for name, values in ids]
        unique, positions = tf.unique(tf.concat(shifted, axis=0))
        read = self.gather(unique) if self.gather else tf.gather(local_copy(self.table), unique)
        rows = tf.cast(read, self.compute_dtype)
        rows = tf.concat([rows, tf.zeros([1, self.dim], rows.dtype)], axis=0)
        sizes = [tf.shape(values)[0] for values in shifted]
        return UniqueRows(rows=rows, positions=tf.split(positions, sizes, num=len(sizes)))

    def _checked(self, name: str, values: tf.Tensor) -> tf.Tensor:
        size = self.sizes[name]
        message = (
            f"{self.name}: an index of {name} lies outside its {size} rows; the examples were not "
            "transformed by the graph that this ranker was made with"
        )
        is_inside = tf.reduce_all((values >= 0) & (values < tf.constant(size, values.dtype)))
        # Without the branch of tf.debugging's assertions, which costs more than the comparison.
        check = tf.raw_ops.Assert(condition=is_inside, data=[message, values])
        with tf.control_dependencies([] if check is None else [check]):
            return tf.identity(values)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "dim": self.dim,
            "init_std": self.init_std,
        }
