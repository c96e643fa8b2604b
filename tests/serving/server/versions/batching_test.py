"""The queue that merges requests: which share a call, and what each gets."""

from __future__ import annotations

import random
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from serving.server.config import BatchingConfig
from serving.server.signature import Arrays
from serving.server.versions.batching import BatchQueue
from tests.serving.server.versions.queues import (
    FOREVER,
    Model,
    gated,
    request,
    signature,
    submit,
    until,
    waiting,
)


def test_a_lone_request_runs_at_once() -> None:
    model = Model()

    outputs = BatchQueue(signature(), model, BatchingConfig()).run(request(1, 2), FOREVER)

    np.testing.assert_array_equal(outputs["y"], [2, 4])
    assert len(model.batches) == 1


def test_requests_that_wait_together_share_a_call(pool: futures.Executor) -> None:
    queue, model, gate, first = gated(BatchingConfig(), pool)
    later = [submit(pool, queue, value, value + 0.5) for value in (1.0, 2.0, 3.0)]
    until(lambda: waiting(queue) == 3)

    gate.set()

    assert [each.result(20)["y"].tolist() for each in later] == [[2, 3], [4, 5], [6, 7]]
    assert first.result(20)["y"].tolist() == [0]
    assert [len(batch) for batch in model.batches] == [1, 6]


def test_a_batch_has_no_more_rows_than_the_bound(pool: futures.Executor) -> None:
    queue, model, gate, _ = gated(BatchingConfig(max_rows=4), pool)
    later = [submit(pool, queue, value, value) for value in (1.0, 2.0, 3.0)]
    until(lambda: waiting(queue) == 3)

    gate.set()
    futures.wait(later, 20)

    assert [len(batch) for batch in model.batches] == [1, 4, 2]


def test_a_large_request_runs_beside_the_queue(pool: futures.Executor) -> None:
    queue, model, gate, _ = gated(BatchingConfig(bypass_rows=3), pool)

    large = submit(pool, queue, 1.0, 2.0, 3.0)

    until(lambda: len(model.batches) == 2)
    assert waiting(queue) == 0
    gate.set()
    assert large.result(20)["y"].tolist() == [2, 4, 6]


def test_a_wide_request_runs_beside_the_queue(pool: futures.Executor) -> None:
    queue, model, gate, _ = gated(BatchingConfig(bypass_bytes=9), pool)

    submit(pool, queue, 1.0, 2.0, 3.0)

    until(lambda: len(model.batches) == 2)
    gate.set()


def test_nothing_is_merged_when_it_is_turned_off(pool: futures.Executor) -> None:
    gate = threading.Event()
    model = Model(gate=gate)
    queue = BatchQueue(signature(), model, BatchingConfig(enabled=False))

    calls = [submit(pool, queue, value) for value in (1.0, 2.0)]

    until(lambda: len(model.batches) == 2)
    gate.set()
    assert [each.result(20)["y"].tolist() for each in calls] == [[2], [4]]


def test_a_signature_without_rows_is_never_merged(pool: futures.Executor) -> None:
    queue, model, gate, _ = gated(BatchingConfig(), pool, rows=False)

    submit(pool, queue, 1.0)

    until(lambda: len(model.batches) == 2)
    gate.set()


def matrix(rows: int, width: int, value: float) -> Arrays:
    return {"x": np.full((rows, width), value, np.float32)}


def test_requests_of_unequal_inner_length_are_kept_apart(pool: futures.Executor) -> None:
    gate = threading.Event()
    model = Model(gate=gate)
    queue = BatchQueue(signature(rank=2), model, BatchingConfig())
    calls = [pool.submit(queue.run, matrix(1, 2, 0.0), FOREVER)]
    assert model.entered.acquire(timeout=20)
    for width in (2, 3, 2, 3):
        calls.append(pool.submit(queue.run, matrix(1, width, width), FOREVER))
    until(lambda: waiting(queue) == 4)

    gate.set()
    futures.wait(calls, 20)

    assert sorted(batch.shape for batch in model.batches) == [(1, 2), (2, 2), (2, 3)]


def test_padding_merges_requests_of_unequal_inner_length(pool: futures.Executor) -> None:
    gate = threading.Event()
    model = Model(gate=gate)
    queue = BatchQueue(signature(rank=2), model, BatchingConfig(pad_variable_length_inputs=True))
    calls = [pool.submit(queue.run, matrix(1, 1, 0.0), FOREVER)]
    assert model.entered.acquire(timeout=20)
    for width in (3, 2):
        calls.append(pool.submit(queue.run, matrix(1, width, width), FOREVER))
        until(lambda: waiting(queue) == len(calls) - 1)

    gate.set()

    assert [each.result(20)["y"].tolist() for each in calls[1:]] == [[[6, 6, 6]], [[4, 4, 0]]]
    assert [batch.shape for batch in model.batches] == [(1, 1), (2, 3)]


def test_requests_whose_padding_would_take_all_memory_are_run_one_by_one(
    pool: futures.Executor,
) -> None:
    gate = threading.Event()
    model = Model(gate=gate)
    batches: list[tuple[int, int]] = []
    queue = BatchQueue(
        signature(rank=3),
        model,
        BatchingConfig(pad_variable_length_inputs=True),
        observe=lambda requests, rows: batches.append((requests, rows)),
    )
    # Each is smaller than the bypass; padded to one another they would be 600 MB.
    shapes = [(1, 1, 1), (1, 9000, 1), (1, 1, 9000)]
    calls = []
    for position, shape in enumerate(shapes):
        inputs = {"x": np.full(shape, position, np.float32)}
        calls.append(pool.submit(queue.run, inputs, FOREVER))
        if not position:
            assert model.entered.acquire(timeout=20)
        until(lambda: waiting(queue) == len(calls) - 1)

    gate.set()

    assert [each.result(20)["y"].shape for each in calls] == shapes
    assert [batch.shape for batch in model.batches] == shapes
    assert batches == [(1, 1)] * 3


def test_padding_fills_strings_with_empty_ones() -> None:
    from serving.server.versions.batching import _padded

    short = np.array([[b"a"]], object)
    long = np.array([[b"b", b"c"]], object)

    padded, unchanged = _padded([short, long])

    assert padded.tolist() == [[b"a", b""]]
    assert unchanged is long


def test_several_batches_may_run_at_once(pool: futures.Executor) -> None:
    queue, model, gate, _ = gated(BatchingConfig(parallel_batches=2), pool)

    second = submit(pool, queue, 1.0)
    until(lambda: len(model.batches) == 2)
    third = submit(pool, queue, 2.0)
    until(lambda: waiting(queue) == 1)
    gate.set()

    assert second.result(20)["y"].tolist() == [2]
    assert third.result(20)["y"].tolist() == [4]


@pytest.mark.parametrize("parallel", [1, 3])
def test_many_threads_get_the_answers_of_single_calls(
    pool: futures.Executor, parallel: int
) -> None:
    sizes: list[int] = []

    def doubles(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["x"]))
        time.sleep(0.0005)
        return {"y": inputs["x"] * 2}

    def shifts(inputs: Arrays) -> Arrays:
        time.sleep(0.0005)
        return {"y": inputs["x"] + 1000}

    config = BatchingConfig(parallel_batches=parallel, max_rows=16, bypass_rows=5)
    queues = (
        (BatchQueue(signature(), doubles, config), lambda x: x * 2),
        (BatchQueue(signature(), shifts, config), lambda x: x + 1000),
    )

    def call(number: int) -> int:
        chance = random.Random(number)
        queue, expected = queues[number % 2]
        values = np.array(
            [chance.randrange(10_000) for _ in range(chance.randrange(1, 7))], np.float32
        )
        found = queue.run({"x": values}, FOREVER)["y"]
        return int(found.shape != values.shape or not (found == expected(values)).all())

    wrong = sum(pool.map(call, range(4000)))

    assert wrong == 0
    assert max(sizes) > 6


def test_the_rows_of_every_batch_are_counted() -> None:
    seen: list[tuple[int, int]] = []
    config = BatchingConfig(bypass_rows=3)
    for rows in (True, False):
        queue = BatchQueue(
            signature(rows=rows), Model(), config, observe=lambda *counts: seen.append(counts)
        )
        for values in ((1.0, 2.0), (1.0, 2.0, 3.0)):
            queue.run(request(*values), FOREVER)

    assert seen == [(1, 2), (1, 3)] * 2
