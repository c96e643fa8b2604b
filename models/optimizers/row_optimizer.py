"""What the optimisers of embedding tables share: a step moves the rows of its gradient only."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class RowOptimizer(tf.keras.optimizers.Optimizer):
    """Base of optimisers that read and write only the rows that a gradient holds.

    A subclass makes its state in ``build`` and moves rows in ``update_rows``.

    Args:
        learning_rate: step size.
        name: of the optimiser.
    """

    def __init__(self, learning_rate: Any, name: str, **kwargs: Any) -> None:
        # Keras takes a decay of 0, its default, from every row of the table in each step.
        kwargs.setdefault("weight_decay", None)
        super().__init__(name=name, jit_compile=False, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)

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
