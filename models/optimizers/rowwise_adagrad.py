"""Adagrad with one accumulator a row, for large embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="lengthwise")
class RowwiseAdagrad(tf.keras.optimizers.Optimizer):
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

    def __init__(
        self,
        learning_rate: float = 0.05,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "RowwiseAdagrad",
        **kwargs: Any,
    ) -> None:
        # Keras takes a decay of 0, its default, from every row of the table in each step.
        kwargs.setdefault("weight_decay", None)
        super().__init__(name=name, jit_compile=False, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes one accumulator a row of each variable."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._accumulators = [
            self.add_variable_from_reference(
                variable,
                "accumulator",
                shape=variable.shape[:1],
                initial_value=tf.fill(variable.shape[:1], self.initial_accumulator_value),
            )
            for variable in var_list
        ]
        self._built = True

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates the rows that ``gradient`` holds; no row may be in it twice."""
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        rate = tf.cast(self.learning_rate, variable.dtype)
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.IndexedSlices(gradient, tf.range(variable.shape[0]))
        squares = tf.reduce_mean(tf.square(gradient.values), axis=range(1, variable.shape.rank))
        accumulator.scatter_add(tf.IndexedSlices(squares, gradient.indices))
        scale = rate / (tf.sqrt(tf.gather(accumulator, gradient.indices)) + self.epsilon)
        step = -tf.reshape(scale, [-1] + [1] * (variable.shape.rank - 1)) * gradient.values
        variable.scatter_add(tf.IndexedSlices(step, gradient.indices))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("jit_compile", None)
        return {
            **config,
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
