"""What the workers of a training have to agree on, from inside TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class WorkerGroup:
    """Passes values between the workers of a strategy; with one worker it does nothing.

    Every worker must make the same calls in the same order.

    Args:
        strategy: any strategy.

    Attributes:
        count: number of workers.
        index: of this worker; 0 is the chief.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        resolver = strategy.cluster_resolver
        tasks = resolver.cluster_spec().as_dict() if resolver else {}
        self.count = len(tasks.get("worker", ())) or 1
        self.index = int(resolver.task_id) if self.count > 1 else 0
        self._sum = tf.function(self._sum_all, input_signature=[tf.TensorSpec([None], tf.float64)])

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the chief."""
        return self.index == 0

    def from_chief(self, values: Sequence[float]) -> list[float]:
        """Returns the values of the chief; all workers wait for it.

        Args:
            values: as many in every worker.
        """
        if self.count == 1:
            return list(values)
        own = np.asarray(values, np.float64)
        own = own if self.is_chief else np.zeros_like(own)
        return [float(value) for value in self._sum(tf.constant(own)).numpy()]

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Joins the arrays of all workers.

        Args:
            values: [rows], as many as this worker has.

        Returns:
            [rows of all workers], in the order of the workers.
        """
        if self.count == 1:
            return values
        gather = tf.function(
            lambda rows: self._strategy.gather(rows, axis=0),
            input_signature=[tf.TensorSpec([None], values.dtype)],
        )
        return np.asarray(gather(tf.constant(values)).numpy())

    def local(self, value: Any) -> tuple[Any, ...]:
        """Returns what this worker's own devices hold of a distributed value."""
        return tuple(self._strategy.experimental_local_results(value))

    def _sum_all(self, values: tf.Tensor) -> tf.Tensor:
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
