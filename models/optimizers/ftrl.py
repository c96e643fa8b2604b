"""FTRL-Proximal that moves only the rows a batch read, for embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from models.local_copy import local_copy
from models.optimizers.row_optimizer import RowOptimizer


@tf.keras.utils.register_keras_serializable(package="lengthwise")
class SparseFtrl(RowOptimizer):
    """FTRL-Proximal (McMahan et al., KDD 2013) on the rows that the gradient holds.

    For each weight w with gradient g of such a row, with ``q = (beta + sqrt(n)) / learning_rate``::

        z <- z + g - (sqrt(n + g * g) - sqrt(n)) / learning_rate * w
        n <- n + g * g
        w <- 0                                     where |z| <= l1
             (sign(z) * l1 - z) / (q + 2 * l2)     elsewhere

    The paper starts from weights of zero. An embedding starts from random ones, or from those of
    an earlier model, and ``z = 0`` would throw them away at the first step. Here a weight that
    had no gradient yet has the ``z`` that gives back this very weight, so with ``l1 = l2 = 0`` and
    ``beta = 0`` the steps are those of Adagrad. A row without a gradient is not read or written.

    Args:
        learning_rate: step size.
        initial_accumulator_value: what ``n`` starts from; above 0.
        l1: strength of the L1 term, which sets weights to exactly 0.
        l2: strength of the L2 term, ``l2 * w * w``, which pulls weights towards 0.
        beta: added to the root of ``n``.
    """

    def __init__(
        self,
        learning_rate: float = 0.05,
        initial_accumulator_value: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        beta: float = 0.0,
        name: str = "SparseFtrl",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name, **kwargs)
        for argument, value in (("l1", l1), ("l2", l2), ("beta", beta)):
            if value < 0:
                raise ValueError(f"{argument} {value}: at least 0 is accepted")
        if initial_accumulator_value <= 0:
            raise ValueError(
                f"initial_accumulator_value {initial_accumulator_value}: above 0 is accepted"
            )
        self.initial_accumulator_value = initial_accumulator_value
        self.l1 = l1
        self.l2 = l2
        self.beta = beta

    def make_state(self, variables: Sequence[tf.Variable]) -> None:
        """Makes the accumulator ``n`` and the linear term ``z`` of each variable."""
        start = self.initial_accumulator_value
        self._accumulators = self.add_state(variables, "accumulator", value=start)
        self._linears = self.add_state(variables, "linear")

    def update_rows(
        self, variable: tf.Variable, index: int, rows: tf.Tensor, values: tf.Tensor
    ) -> None:
        """Moves rows; see the class."""
        accumulator = local_copy(self._accumulators[index])
        linear = local_copy(self._linears[index])
        rate = tf.cast(self.learning_rate, variable.dtype)
        weight, total = tf.gather(variable, rows), tf.gather(accumulator, rows)
        is_new = tf.equal(total, tf.cast(self.initial_accumulator_value, total.dtype))
        start = -weight * self._strength(total, rate) - tf.sign(weight) * self.l1
        term = tf.where(is_new, start, tf.gather(linear, rows))
        new_total = total + tf.square(values)
        term += values - (tf.sqrt(new_total) - tf.sqrt(total)) / rate * weight
        moved = (tf.sign(term) * self.l1 - term) / self._strength(new_total, rate)
        new_weight = tf.where(tf.abs(term) <= self.l1, tf.zeros_like(moved), moved)
        accumulator.scatter_update(tf.IndexedSlices(new_total, rows))
        linear.scatter_update(tf.IndexedSlices(term, rows))
        variable.scatter_update(tf.IndexedSlices(new_weight, rows))

    def _strength(self, total: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        """What a weight is divided by: ``q + 2 * l2``."""
        return (self.beta + tf.sqrt(total)) / rate + 2 * self.l2

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1": self.l1,
            "l2": self.l2,
            "beta": self.beta,
        }
