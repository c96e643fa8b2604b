"""Tests of the sparse optimisers, against numpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config import LearningRateSchedule, TableOptimizer, TrainConfig
from models.embeddings import StackedEmbedding
from models.optimizers.adagrad import SparseAdagrad
from models.optimizers.build import make_optimizer
from models.optimizers.ftrl import SparseFtrl
from models.optimizers.lazy_adam import LazyAdam
from models.optimizers.rowwise_adagrad import RowwiseAdagrad

ROOT = Path(__file__).resolve().parents[3]
ROWS, DIM = 7, 3
KINDS = [LazyAdam, SparseAdagrad, RowwiseAdagrad, SparseFtrl]
OPTIMIZERS = pytest.mark.parametrize("kind", KINDS)


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


@pytest.mark.parametrize(
    ("l1", "l2", "beta"), [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.25, 0.0), (0.75, 0.125, 1.0)]
)
def test_ftrl_equals_numpy(l1: float, l2: float, beta: float) -> None:
    rate = 0.1
    table, total = np.ones([ROWS, DIM]), np.full([ROWS, DIM], 0.1)
    # The term whose minimum is the weight that a row starts from: 1.
    linear = -((beta + np.sqrt(total)) / rate + 2 * l2) - l1
    for rows, values in gradients(6):
        for row, gradient in summed(rows, values).items():
            for column in range(DIM):
                grown = total[row, column] + gradient[column] ** 2
                sigma = (np.sqrt(grown) - np.sqrt(total[row, column])) / rate
                linear[row, column] += gradient[column] - sigma * table[row, column]
                total[row, column] = grown
                z = linear[row, column]
                strength = (beta + np.sqrt(grown)) / rate + 2 * l2
                # The minimum of z w + strength w^2 / 2 + l1 |w|.
                table[row, column] = -np.sign(z) * max(abs(z) - l1, 0.0) / strength
    optimizer = SparseFtrl(rate, l1=l1, l2=l2, beta=beta)
    np.testing.assert_allclose(run(optimizer, gradients(6)), table, rtol=1e-4, atol=1e-6)


def test_adagrad_is_that_of_keras() -> None:
    adagrad = tf.keras.optimizers.Adagrad(0.05, jit_compile=False)
    np.testing.assert_allclose(
        run(SparseAdagrad(0.05), gradients(5)), run(adagrad, gradients(5)), rtol=1e-6
    )


def test_ftrl_without_terms_is_adagrad() -> None:
    adagrad = SparseAdagrad(0.05, epsilon=0.0)
    np.testing.assert_allclose(
        run(SparseFtrl(0.05), gradients(5)), run(adagrad, gradients(5)), rtol=1e-5
    )


def test_ftrl_with_l1_sets_weights_to_zero() -> None:
    table = tf.Variable(tf.fill([1, DIM], 0.01))
    optimizer = SparseFtrl(0.1, l1=10.0)
    gradient = tf.IndexedSlices(tf.fill([1, DIM], 0.5), tf.constant([0]), tf.constant([1, DIM]))
    for _ in range(3):
        optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_array_equal(table, np.zeros([1, DIM]))


def test_ftrl_starts_from_weights_given_after_its_state() -> None:
    table = tf.Variable(tf.zeros([1, DIM]))
    optimizer = SparseFtrl(0.1)
    optimizer.build([table])
    table.assign(tf.fill([1, DIM], 3.0))
    gradient = tf.IndexedSlices(tf.fill([1, DIM], 1e-3), tf.constant([0]), tf.constant([1, DIM]))
    optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_allclose(table, np.full([1, DIM], 3 - 0.1 * 1e-3 / np.sqrt(0.1)), rtol=1e-5)


@pytest.mark.parametrize("argument", ["l1", "l2", "beta", "initial_accumulator_value"])
def test_ftrl_refuses_bad_arguments(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument} -1: .* is accepted"):
        SparseFtrl(**{argument: -1})


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


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("kind", list(TableOptimizer))
def test_a_step_never_reads_or_writes_a_whole_table(
    kind: TableOptimizer, is_mirrored: bool
) -> None:
    strategy = (
        tf.distribute.MirroredStrategy(["CPU:0"]) if is_mirrored else tf.distribute.get_strategy()
    )
    with strategy.scope():
        embedding = StackedEmbedding({"items": ROWS}, DIM, init_std=0.1)
        table = embedding.table
        config = TrainConfig(table_optimizer=kind)
        optimizer = make_optimizer(config, {"items/table": table}, [table])

    def on_device(ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(embedding.unique_rows([("items", ids)]).rows ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def step(ids: tf.Tensor) -> None:
        strategy.run(on_device, args=(ids,))

    before = table.numpy()
    step(tf.constant([2, 4, 2], tf.int64))
    moved = np.any(before != table.numpy(), axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), [2, 4])
    graph = step.get_concrete_function().graph
    whole = {
        operation.type
        for operation in graph.get_operations()
        if any(output.shape.rank and output.shape[0] == ROWS for output in operation.outputs)
    }
    assert not whole
    assert "ResourceGather" in {operation.type for operation in graph.get_operations()}


@OPTIMIZERS
def test_configuration_round_trips(kind: Any) -> None:
    config = kind(learning_rate=0.25).get_config()
    again = kind.from_config(config)
    assert again.get_config() == config
    assert float(again.learning_rate) == 0.25


def step(config: TrainConfig) -> dict[str, Any]:
    """Takes one step of gradients of one, on one row of the tables; returns all weights."""
    weights = {
        "items/table": tf.Variable(tf.ones([ROWS, DIM])),
        "fields/table": tf.Variable(tf.ones([ROWS, DIM])),
        "head/kernel": tf.Variable(tf.ones([DIM])),
        "head/bias": tf.Variable(tf.ones([DIM])),
    }
    tables = [weights["items/table"], weights["fields/table"]]
    optimizer = make_optimizer(config, weights, tables)
    row = tf.IndexedSlices(tf.ones([1, DIM]), tf.constant([2]), tf.constant([ROWS, DIM]))
    optimizer.apply_gradients(
        [(row, weight) if weight.shape.rank == 2 else (tf.ones([DIM]), weight)
         for weight in weights.values()]
    )  # fmt: skip
    assert int(optimizer.iterations) == 1
    return weights


@pytest.mark.parametrize("kind", list(TableOptimizer))
def test_tables_and_dense_weights_get_their_own_optimiser(kind: TableOptimizer) -> None:
    weights = step(TrainConfig(table_optimizer=kind, learning_rate=0.125, table_learning_rate=0.5))
    # The first step of Adam, lazy or not, is as long as the learning rate.
    np.testing.assert_allclose(weights["head/kernel"], np.full(DIM, 0.875), rtol=1e-5)
    table = weights["items/table"].numpy()
    moved = np.flatnonzero(np.any(table != 1, axis=1))
    assert moved.tolist() == [2]
    # Adagrad of either kind, and FTRL without terms, divide by the root of 0.1 + 1.
    length = 0.5 if kind is TableOptimizer.LAZY_ADAM else 0.5 / np.sqrt(1.1)
    np.testing.assert_allclose(table[2], np.full(DIM, 1 - length), rtol=1e-5)


def test_learning_rates_by_pattern_and_the_first_that_fits_counts() -> None:
    rates = {"*/bias": 0.25, "head/*": 0.0625, "items/*": 0.03125}
    weights = step(TrainConfig(learning_rate=0.125, table_learning_rate=0.5, learning_rates=rates))
    moved = {place: 1 - np.min(weight) for place, weight in weights.items()}
    wanted = {
        "head/bias": 0.25, "head/kernel": 0.0625, "items/table": 0.03125, "fields/table": 0.5
    }  # fmt: skip
    assert moved == pytest.approx(wanted, rel=1e-4)


def test_a_linear_schedule_takes_both_rates_to_nothing_in_equal_steps() -> None:
    table, dense = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([DIM]))
    weights = {"items/table": table, "head/bias": dense}
    config = TrainConfig(
        learning_rate_schedule=LearningRateSchedule.LINEAR,
        learning_rate=0.125,
        table_learning_rate=0.5,
    )
    optimizer = make_optimizer(config, weights, [table], steps=4)
    gradient = tf.IndexedSlices(tf.ones([1, DIM]), tf.constant([2]), tf.constant([ROWS, DIM]))
    seen = []
    for _ in range(5):
        before = float(table[2, 0]), float(dense[0])
        optimizer.apply_gradients([(gradient, table), (tf.ones([DIM]), dense)])
        seen.append((before[0] - float(table[2, 0]), before[1] - float(dense[0])))
    # With the same gradient at every step, Adam moves by the learning rate.
    left = np.array([1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(seen, np.stack([0.5 * left, 0.125 * left], axis=1), atol=1e-5)


@pytest.mark.parametrize("rates", [{"tail/*": 0.1}, {"head/*": 0.1, "head/bias": 0.2}])
def test_a_pattern_that_fits_nothing_is_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"learning_rates '\S+': fits no weight .*'head/bias'"):
        step(TrainConfig(learning_rates=rates))


# Steps of a table on as many devices as it is told, each with its share of the rows.
DEVICES = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
from tests.models.optimizers import {module} as tests
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tests.step_on_two_devices(sys.argv[2])
"""


def step_on_two_devices(path: str) -> None:
    """Runs the steps of ``gradients`` with half of the rows a device, and saves the tables."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}
    for kind in KINDS:
        with strategy.scope():
            table, optimizer = tf.Variable(tf.ones([ROWS, DIM])), kind(0.05)
            optimizer.build([table])

        def on_device(rows: tf.Tensor, values: tf.Tensor) -> None:
            half = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.IndexedSlices(
                values[2 * half : 2 * half + 2],
                rows[2 * half : 2 * half + 2],
                tf.constant([ROWS, DIM]),
            )
            optimizer.apply_gradients([(gradient, table)])  # noqa: B023

        run_all = tf.function(strategy.run)
        for rows, values in gradients(4):
            run_all(on_device, args=(tf.constant(rows), tf.constant(values)))
        for number, local in enumerate(strategy.experimental_local_results(table)):
            found[f"{kind.__name__}/{number}"] = local.numpy()
    np.savez(path, **found)


def test_two_devices_step_like_one(tmp_path: Path) -> None:
    script, tables = tmp_path / "run.py", tmp_path / "tables.npz"
    script.write_text(DEVICES.format(module=__name__.rpartition(".")[2]))
    process = subprocess.run(
        [sys.executable, str(script), str(ROOT), str(tables)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    with np.load(tables) as found:
        for kind in KINDS:
            wanted = run(kind(0.05), gradients(4))
            for number in range(2):
                np.testing.assert_allclose(found[f"{kind.__name__}/{number}"], wanted, rtol=1e-5)
