"""From the configuration to the optimiser of a ranker."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.config import LearningRateSchedule, TableOptimizer, TrainConfig
from models.optimizers.adagrad import SparseAdagrad
from models.optimizers.ftrl import SparseFtrl
from models.optimizers.lazy_adam import LazyAdam
from models.optimizers.rowwise_adagrad import RowwiseAdagrad

Rate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule

logger = logging.getLogger(__name__)


class _Group(NamedTuple):
    """Weights of one optimiser and learning rate."""

    weights: list[tf.Variable]
    is_tables: bool
    rate: float


def make_optimizer(
    config: TrainConfig,
    weights: Mapping[str, tf.Variable],
    tables: Sequence[tf.Variable],
    *,
    steps: int | None = None,
) -> tf.keras.optimizers.legacy.Optimizer:
    """Makes Adam for dense weights with a sparse optimiser for tables, for each learning rate.

    The state of all of them is made here, not in the first step: a checkpoint is read into it
    before that.

    Args:
        config: the ``train`` section.
        weights: all trainable weights by place.
        tables: those of them that are embedding tables.
        steps: of the whole training, if known; a schedule needs it.

    Raises:
        ValueError: a pattern of ``learning_rates`` fits no weight that an earlier one left.
    """
    parts = []
    for group in _groups(config, weights, tables):
        rate = _rate(config, group.rate, steps)
        optimizer = (
            _table_optimizer(config, rate)
            if group.is_tables
            else tf.keras.optimizers.Adam(rate, jit_compile=False)
        )
        optimizer.build(group.weights)
        parts.append((optimizer, lambda weights=group.weights: weights))
    return tfrs.experimental.optimizers.CompositeOptimizer(parts)


def _groups(
    config: TrainConfig, weights: Mapping[str, tf.Variable], tables: Sequence[tf.Variable]
) -> list[_Group]:
    """Splits the weights by kind and learning rate; no group is empty."""
    left = dict(weights)
    chosen: list[tuple[dict[str, tf.Variable], float | None]] = [(left, None)]
    for pattern, rate in config.learning_rates.items():
        found = {place: left.pop(place) for place in fnmatch.filter(list(left), pattern)}
        if not found:
            raise ValueError(
                f"train.learning_rates {pattern!r}: fits no weight that is left; shell patterns "
                f"of these places are accepted: {sorted(weights)}"
            )
        logger.info("learning rate %g of %r: %s", rate, pattern, ", ".join(sorted(found)))
        chosen.append((found, rate))
    refs = {table.ref() for table in tables}
    groups = []
    for found, wanted in chosen:
        for is_tables, default in (
            (False, config.learning_rate),
            (True, config.resolved_table_learning_rate),
        ):
            members = [w for w in found.values() if (w.ref() in refs) == is_tables]
            if members:
                groups.append(_Group(members, is_tables, default if wanted is None else wanted))
    return groups


def _table_optimizer(config: TrainConfig, rate: Rate) -> tf.keras.optimizers.Optimizer:
    if config.table_optimizer is TableOptimizer.ADAGRAD:
        return SparseAdagrad(rate)
    if config.table_optimizer is TableOptimizer.ROWWISE_ADAGRAD:
        return RowwiseAdagrad(rate)
    if config.table_optimizer is TableOptimizer.FTRL:
        return SparseFtrl(rate, l1=config.table_l1, l2=config.table_l2)
    return LazyAdam(rate)


def _rate(config: TrainConfig, start: float, steps: int | None) -> Rate:
    """Returns what a learning rate is at each step."""
    if config.learning_rate_schedule is LearningRateSchedule.CONSTANT or steps is None:
        return start
    return tf.keras.optimizers.schedules.PolynomialDecay(start, max(steps, 1), end_learning_rate=0)
