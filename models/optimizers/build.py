"""From the configuration to the optimiser of a ranker."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.config import TableOptimizer, TrainConfig
from models.optimizers.lazy_adam import LazyAdam
from models.optimizers.rowwise_adagrad import RowwiseAdagrad


def make_optimizer(
    config: TrainConfig, tables: Sequence[tf.Variable], dense: Sequence[tf.Variable]
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes Adam for dense weights with a sparse optimiser for tables.

    Args:
        config: the ``train`` section.
        tables: the embedding tables.
        dense: all other trainable weights.
    """

    def get_tables() -> Sequence[tf.Variable]:
        return tables

    def get_dense() -> Sequence[tf.Variable]:
        return dense

    return tfrs.experimental.optimizers.CompositeOptimizer(
        [
            (tf.keras.optimizers.Adam(config.learning_rate, jit_compile=False), get_dense),
            (_table_optimizer(config), get_tables),
        ]
    )


def _table_optimizer(config: TrainConfig) -> tf.keras.optimizers.Optimizer:
    rate = config.resolved_table_learning_rate
    if config.table_optimizer is TableOptimizer.ADAGRAD:
        return tf.keras.optimizers.Adagrad(rate, jit_compile=False)
    if config.table_optimizer is TableOptimizer.ROWWISE_ADAGRAD:
        return RowwiseAdagrad(rate)
    return LazyAdam(rate)
