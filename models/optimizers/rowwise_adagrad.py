"""Adagrad with one accumulator a row, for large embedding tables."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from models.local_copy import local_copy
from models.optimizers.adagrad import SparseAdagrad


@tf.keras.utils.register_keras_serializable(package="lengthwise")
class RowwiseAdagrad(SparseAdagrad):
    """Adagrad whose step size is per row, not per weight.

    For each row w with gradient g, of the rows that the gradient holds::

        a <- a + mean(g * g)
        w <- w - learning_rate * g / (sqrt(a) + epsilon)

    It keeps one number a row, where Adagrad (Duchi et al., JMLR 2011) keeps one a weight. A
    row without a gradient is not read or written.

    Args:
        learning_rate: step size.
        initial_accumulator_value: what ``a`` starts from.
        epsilon: keeps the quotient finite.
    """

    def make_state(self, variables: Sequence[tf.Variable]) -> None:
        """Makes one accumulator a row of each variable."""
        start = self.initial_accumulator_value
        self._accumulators = self.add_state(variables, "accumulator", value=start, of_rows=True)

    def update_rows(
        self, variable: tf.Variable, index: int, rows: tf.Tensor, values: tf.Tensor
    ) -> None:
        """Moves rows; see the class."""
        accumulator = local_copy(self._accumulators[index])
        rate = tf.cast(self.learning_rate, variable.dtype)
        squares = tf.reduce_mean(tf.square(values), axis=range(1, variable.shape.rank))
        accumulator.scatter_add(tf.IndexedSlices(squares, rows))
        scale = rate / (tf.sqrt(tf.gather(accumulator, rows)) + self.epsilon)
        step = -tf.reshape(scale, [-1] + [1] * (variable.shape.rank - 1)) * values
        variable.scatter_add(tf.IndexedSlices(step, rows))
