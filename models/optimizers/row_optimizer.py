"""What the optimisers of embedding tables share: a step moves the rows of its gradient only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class RowOptimizer(tf.keras.optimizers.Optimizer):
    """Base of optimisers that read and write only the rows that a gradient holds.

    A subclass makes its state in ``make_state`` and moves rows in ``update_rows``.

    Args:
        learning_rate: step size.
        name: of the optimiser.
    """

    def __init__(self, learning_rate: Any, name: str, **kwargs: Any) -> None:
        # Keras takes a decay of 0, its default, from every row of the table in each step.
        kwargs.setdefault("weight_decay", None)
        super().__init__(name=name, jit_compile=False, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes the state of each variable, in the first call."""
        super().build(var_list)
        if not getattr(self, "_built", False):
            self.make_state(var_list)
            self._built = True

    def make_state(self, variables: Sequence[tf.Variable]) -> None:
        """Makes the state of each variable, with ``add_state``."""
        raise NotImplementedError

    def add_state(
        self,
        variables: Sequence[tf.Variable],
        name: str,
        *,
        value: float = 0.0,
        of_rows: bool = False,
    ) -> list[tf.Variable]:
        """Returns a new variable for each one, in their order.

        Args:
            variables: the tables.
            name: of the state.
            value: what it starts from.
            of_rows: whether it is one number a row, and not one a weight.
        """
        return [
            self.add_variable_from_reference(
                variable,
                name,
                shape=shape,
                initial_value=tf.fill(shape, tf.constant(value, variable.dtype)),
            )
            for variable in variables
            for shape in [variable.shape[:1] if of_rows else variable.shape]
        ]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates the rows that ``gradient`` holds; no row may be in it twice."""
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.IndexedSlices(gradient, tf.range(variable.shape[0]))
        index = self._index_dict[self._var_key(variable)]
        self.update_rows(variable, index, gradient.indices, gradient.values)

    def update_rows(
        self, variable: tf.Variable, index: int, rows: tf.Tensor, values: tf.Tensor
    ) -> None:
        """Moves rows of a variable.

        Args:
            variable: the table, [entries, dim].
            index: of the variable among those of ``build``.
            rows: which rows, each once, [n].
            values: their gradients, [n, dim].
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("jit_compile", None)
        return {**config, "learning_rate": self._serialize_hyperparameter(self._learning_rate)}
