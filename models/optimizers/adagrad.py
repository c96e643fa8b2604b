"""Adagrad that reads and moves only the rows a batch read, on several devices too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from models.local_copy import local_copy
from models.optimizers.row_optimizer import RowOptimizer


@tf.keras.utils.register_keras_serializable(package="lengthwise")
class SparseAdagrad(RowOptimizer):
    """Adagrad (Duchi et al., JMLR 2011) on the rows that the gradient holds.

    For each weight w with gradient g of such a row::

        a <- a + g * g
        w <- w - learning_rate * g / sqrt(a + epsilon)

    These are the steps of Keras's Adagrad. That one copies all accumulators of a table in each
    step once ``tf.distribute`` has mirrored them over devices or workers.

    Args:
        learning_rate: step size.
        initial_accumulator_value: what ``a`` starts from.
        epsilon: keeps the quotient finite.
    """

    def __init__(
        self,
        learning_rate: float = 0.05,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name or type(self).__name__, **kwargs)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def make_state(self, variables: Sequence[tf.Variable]) -> None:
        """Makes the accumulator of each variable."""
        start = self.initial_accumulator_value
        self._accumulators = self.add_state(variables, "accumulator", value=start)

    def update_rows(
        self, variable: tf.Variable, index: int, rows: tf.Tensor, values: tf.Tensor
    ) -> None:
        """Moves rows; see the class."""
        accumulator = local_copy(self._accumulators[index])
        rate = tf.cast(self.learning_rate, variable.dtype)
        accumulator.scatter_add(tf.IndexedSlices(tf.square(values), rows))
        root = tf.sqrt(tf.gather(accumulator, rows) + self.epsilon)
        variable.scatter_add(tf.IndexedSlices(-rate * values / root, rows))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
