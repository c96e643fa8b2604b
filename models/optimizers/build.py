"""From the configuration to the optimiser of a ranker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.config import LearningRateSchedule, TableOptimizer, TrainConfig
from models.optimizers.lazy_adam import LazyAdam
from models.optimizers.rowwise_adagrad import RowwiseAdagrad

Rate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule


def make_optimizer(
    config: TrainConfig,
    tables: Sequence[tf.Variable],
    dense: Sequence[tf.Variable],
    *,
    steps: int | None = None,
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes Adam for dense weights with a sparse optimiser for tables.

    Args:
        config: the ``train`` section.
        tables: the embedding tables.
        dense: all other trainable weights.
        steps: of the whole training, if known; a schedule needs it.
    """

    def get_tables() -> Sequence[tf.Variable]:
        return tables

    def get_dense() -> Sequence[tf.Variable]:
        return dense

    return tfrs.experimental.optimizers.CompositeOptimizer(
        [
            (
                tf.keras.optimizers.Adam(
                    _rate(config, config.learning_rate, steps), jit_compile=False
                ),
                get_dense,
            ),
            (_table_optimizer(config, steps), get_tables),
        ]
    )


def _table_optimizer(config: TrainConfig, steps: int | None) -> tf.keras.optimizers.Optimizer:
    rate = _rate(config, config.resolved_table_learning_rate, steps)
    if config.table_optimizer is TableOptimizer.ADAGRAD:
        return tf.keras.optimizers.Adagrad(rate, jit_compile=False)
    if config.table_optimizer is TableOptimizer.ROWWISE_ADAGRAD:
        return RowwiseAdagrad(rate)
    return LazyAdam(rate)


def _rate(config: TrainConfig, start: float, steps: int | None) -> Rate:
    """Returns what a learning rate is at each step."""
    if config.learning_rate_schedule is LearningRateSchedule.CONSTANT or steps is None:
        return start
    return tf.keras.optimizers.schedules.PolynomialDecay(start, max(steps, 1), end_learning_rate=0)
