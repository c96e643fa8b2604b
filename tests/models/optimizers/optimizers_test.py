"""Tests of the sparse optimisers, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config import LearningRateSchedule, TableOptimizer, TrainConfig
from models.optimizers.build import make_optimizer
from models.optimizers.lazy_adam import LazyAdam
from models.optimizers.rowwise_adagrad import RowwiseAdagrad

ROWS, DIM = 7, 3
OPTIMIZERS = pytest.mark.parametrize("kind", [LazyAdam, RowwiseAdagrad])


def gradients(steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and gradients a step, with rows named twice."""
    random = np.random.default_rng(0)
    return [
        (random.integers(0, ROWS - 1, size=4), random.normal(size=[4, DIM]).astype(np.float32))
        for _ in range(steps)
    ]


def summed(rows: np.ndarray, values: np.ndarray) -> dict[int, np.ndarray]:
    return {int(row): values[rows == row].sum(axis=0).astype(np.float64) for row in set(rows)}


def run(optimizer: Any, steps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    table = tf.Variable(tf.ones([ROWS, DIM]))

    @tf.function
    def apply(rows: tf.Tensor, values: tf.Tensor) -> None:
        gradient = tf.IndexedSlices(values, rows, tf.constant([ROWS, DIM]))
        optimizer.apply_gradients([(gradient, table)])

    optimizer.build([table])
    for rows, values in steps:
        apply(tf.constant(rows), tf.constant(values))
    return table.numpy()


def test_lazy_adam_equals_numpy() -> None:
    table = np.ones([ROWS, DIM])
    mean, square = np.zeros_like(table), np.zeros_like(table)
    for step, (rows, values) in enumerate(gradients(5), start=1):
        for row, gradient in summed(rows, values).items():
            mean[row] = 0.9 * mean[row] + 0.1 * gradient
            square[row] = 0.999 * square[row] + 0.001 * gradient**2
            rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            table[row] -= rate * mean[row] / (np.sqrt(square[row]) + 1e-7)
    np.testing.assert_allclose(run(LazyAdam(0.01), gradients(5)), table, rtol=1e-5)


def test_rowwise_adagrad_equals_numpy() -> None:
    table, total = np.ones([ROWS, DIM]), np.full(ROWS, 0.1)
    for rows, values in gradients(5):
        for row, gradient in summed(rows, values).items():
            total[row] += np.mean(gradient**2)
            table[row] -= 0.05 * gradient / (np.sqrt(total[row]) + 1e-7)
    np.testing.assert_allclose(run(RowwiseAdagrad(0.05), gradients(5)), table, rtol=1e-5)


def test_lazy_adam_on_dense_gradients_is_adam() -> None:
    one, other = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([ROWS, DIM]))
    lazy, plain = LazyAdam(0.01), tf.keras.optimizers.Adam(0.01, jit_compile=False)
    for step in range(4):
        gradient = tf.random.stateless_normal([ROWS, DIM], seed=[step, 1])
        lazy.apply_gradients([(gradient, one)])
        plain.apply_gradients([(gradient, other)])
    np.testing.assert_allclose(one, other, rtol=1e-5)


@OPTIMIZERS
def test_rows_without_a_gradient_do_not_move(kind: Any) -> None:
    table = run(kind(), gradients(3))
    np.testing.assert_array_equal(table[ROWS - 1], np.ones(DIM))


@OPTIMIZERS
def test_configuration_round_trips(kind: Any) -> None:
    config = kind(learning_rate=0.25, epsilon=1e-3).get_config()
    again = kind.from_config(config)
    assert again.epsilon == 1e-3
    assert float(again.learning_rate) == 0.25


@pytest.mark.parametrize("kind", list(TableOptimizer))
def test_tables_and_dense_weights_get_their_own_optimiser(kind: TableOptimizer) -> None:
    table, dense = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([DIM]))
    config = TrainConfig(table_optimizer=kind, learning_rate=0.125, table_learning_rate=0.5)
    optimizer = make_optimizer(config, [table], [dense])
    gradient = tf.IndexedSlices(tf.ones([1, DIM]), tf.constant([2]), tf.constant([ROWS, DIM]))
    optimizer.apply_gradients([(gradient, table), (tf.ones([DIM]), dense)])
    # The first step of Adam, lazy or not, is as long as the learning rate.
    np.testing.assert_allclose(dense, np.full(DIM, 0.875), rtol=1e-5)
    moved = np.flatnonzero(np.any(table.numpy() != 1, axis=1))
    assert moved.tolist() == [2]
    if kind is TableOptimizer.LAZY_ADAM:
        np.testing.assert_allclose(table[2], np.full(DIM, 0.5), rtol=1e-5)


def test_a_linear_schedule_takes_both_rates_to_nothing_in_equal_steps() -> None:
    table, dense = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([DIM]))
    config = TrainConfig(
        learning_rate_schedule=LearningRateSchedule.LINEAR,
        learning_rate=0.125,
        table_learning_rate=0.5,
    )
    optimizer = make_optimizer(config, [table], [dense], steps=4)
    gradient = tf.IndexedSlices(tf.ones([1, DIM]), tf.constant([2]), tf.constant([ROWS, DIM]))
    seen = []
    for _ in range(5):
        before = float(table[2, 0]), float(dense[0])
        optimizer.apply_gradients([(gradient, table), (tf.ones([DIM]), dense)])
        seen.append((before[0] - float(table[2, 0]), before[1] - float(dense[0])))
    # With the same gradient at every step, Adam moves by the learning rate.
    left = np.array([1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(seen, np.stack([0.5 * left, 0.125 * left], axis=1), atol=1e-5)
