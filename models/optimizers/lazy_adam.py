"""Adam that moves only the rows a batch read, for embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from models.local_copy import local_copy
from models.optimizers.row_optimizer import RowOptimizer


@tf.keras.utils.register_keras_serializable(package="lengthwise")
class LazyAdam(RowOptimizer):
    """Adam (arXiv 1412.6980) on the rows that the gradient holds, at a cost of those rows.

    For each such row w with gradient g, at step t (counted over all steps)::

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g * g
        w <- w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    Adam itself decays m and v of every row at every step and moves rows by old momentum; here
    a row without a gradient is not read or written, so a step costs the rows of the batch and
    not those of the table. On a dense gradient the two are the same.

    Args:
        learning_rate: step size.
        beta_1: decay of the mean of gradients.
        beta_2: decay of the mean of squared gradients.
        epsilon: keeps the quotient finite.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "LazyAdam",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def make_state(self, variables: Sequence[tf.Variable]) -> None:
        """Makes the two moments of each variable."""
        self._means = self.add_state(variables, "m")
        self._squares = self.add_state(variables, "v")

    def update_rows(
        self, variable: tf.Variable, index: int, rows: tf.Tensor, values: tf.Tensor
    ) -> None:
        """Moves rows; see the class."""
        mean, square = local_copy(self._means[index]), local_copy(self._squares[index])
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
        rate = tf.cast(self.learning_rate, variable.dtype) * correction
        new_mean = self.beta_1 * tf.gather(mean, rows) + (1 - self.beta_1) * values
        new_square = self.beta_2 * tf.gather(square, rows) + (1 - self.beta_2) * tf.square(values)
        mean.scatter_update(tf.IndexedSlices(new_mean, rows))
        square.scatter_update(tf.IndexedSlices(new_square, rows))
        change = -rate * new_mean / (tf.sqrt(new_square) + self.epsilon)
        variable.scatter_add(tf.IndexedSlices(change, rows))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
