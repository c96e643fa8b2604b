"""The queue that merges requests: waiting, deadlines, and failures of a batch."""

from __future__ import annotations

import threading
import time
from concurrent import futures

import pytest

from serving.server.config import BatchingConfig
from serving.server.errors import Code, ServingError, invalid
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


def test_the_timeout_lets_a_second_request_join(pool: futures.Executor) -> None:
    model = Model()
    queue = BatchQueue(signature(), model, BatchingConfig(timeout_micros=20_000_000, max_rows=2))

    calls = [submit(pool, queue, value) for value in (1.0, 2.0)]

    assert [each.result(20)["y"].tolist() for each in calls] == [[2], [4]]
    assert [len(batch) for batch in model.batches] == [2]


def test_the_timeout_does_not_outlast_a_deadline() -> None:
    queue = BatchQueue(signature(), Model(), BatchingConfig(timeout_micros=60_000_000))

    start = time.monotonic()
    with pytest.raises(ServingError) as caught:
        queue.run(request(1.0), start + 0.05)

    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 20


def test_one_bad_request_does_not_fail_the_others(pool: futures.Executor) -> None:
    gate = threading.Event()
    entered = threading.Semaphore(0)

    def run(inputs: Arrays) -> Arrays:
        entered.release()
        assert gate.wait(20)
        if (inputs["x"] < 0).any():
            raise invalid("x: negative")
        return {"y": inputs["x"] * 2}

    queue = BatchQueue(signature(), run, BatchingConfig())
    submit(pool, queue, 0.0)
    assert entered.acquire(timeout=20)
    calls = [submit(pool, queue, value) for value in (1.0, -1.0, 2.0)]
    until(lambda: waiting(queue) == 3)
    gate.set()

    results = [each.exception(20) or each.result()["y"].tolist() for each in calls]

    assert (results[0], results[2]) == ([2], [4])
    assert isinstance(results[1], ServingError)
    assert results[1].message == "x: negative"


def test_a_request_that_expired_in_a_batch_that_failed_is_not_run_again(
    pool: futures.Executor,
) -> None:
    gates = [threading.Event(), threading.Event()]
    entered = threading.Semaphore(0)
    batches: list[list[float]] = []

    def run(inputs: Arrays) -> Arrays:
        batches.append(inputs["x"].tolist())
        entered.release()
        assert gates[min(len(batches), 2) - 1].wait(20)
        if (inputs["x"] < 0).any():
            raise invalid("x: negative")
        return {"y": inputs["x"]}

    queue = BatchQueue(signature(), run, BatchingConfig())
    submit(pool, queue, 0.0)
    assert entered.acquire(timeout=20)
    bad = submit(pool, queue, -1.0)
    until(lambda: waiting(queue) == 1)
    gone = submit(pool, queue, 2.0, deadline=time.monotonic() + 1.0)
    until(lambda: waiting(queue) == 2)
    gates[0].set()
    assert entered.acquire(timeout=20)
    assert isinstance(gone.exception(20), ServingError)
    gates[1].set()

    assert isinstance(bad.exception(20), ServingError)
    assert queue.run(request(5.0), FOREVER)["y"].tolist() == [5]
    assert batches == [[0], [-1, 2], [-1], [5]]


def test_an_output_without_the_rows_of_the_batch_ends_the_merging(pool: futures.Executor) -> None:
    gate = threading.Event()
    sizes = []

    def run(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["x"]))
        assert gate.wait(20)
        return {"y": inputs["x"].sum(keepdims=True)}

    queue = BatchQueue(signature(), run, BatchingConfig())
    submit(pool, queue, 0.0)
    until(lambda: len(sizes) == 1)
    calls = [submit(pool, queue, value) for value in (1.0, 2.0)]
    until(lambda: waiting(queue) == 2)
    gate.set()

    assert [each.result(20)["y"].tolist() for each in calls] == [[1], [2]]
    assert sizes == [1, 2, 1, 1]
    assert queue.run(request(1.0, 2.0), FOREVER)["y"].tolist() == [3]


def test_a_request_whose_deadline_passed_is_not_run() -> None:
    model = Model()

    for config in (BatchingConfig(), BatchingConfig(enabled=False)):
        with pytest.raises(ServingError) as caught:
            BatchQueue(signature(), model, config).run(request(1.0), time.monotonic() - 1)
        assert caught.value.code is Code.DEADLINE_EXCEEDED

    assert model.batches == []


def test_a_deadline_ends_the_wait_and_no_work_is_done(pool: futures.Executor) -> None:
    queue, model, gate, first = gated(BatchingConfig(), pool)

    expired = submit(pool, queue, 1.0, deadline=time.monotonic() + 0.05)
    later = submit(pool, queue, 2.0)
    error = expired.exception(20)

    assert isinstance(error, ServingError)
    assert error.code is Code.DEADLINE_EXCEEDED
    gate.set()
    assert later.result(20)["y"].tolist() == [4]
    assert first.result(20)["y"].tolist() == [0]
    assert [batch.tolist() for batch in model.batches] == [[0], [2]]


def test_a_deadline_that_passes_while_the_batch_runs_is_answered_at_once(
    pool: futures.Executor,
) -> None:
    gates = [threading.Event(), threading.Event()]
    entered = threading.Semaphore(0)
    calls_made = []

    def run(inputs: Arrays) -> Arrays:
        calls_made.append(len(inputs["x"]))
        entered.release()
        assert gates[len(calls_made) - 1].wait(20)
        return {"y": inputs["x"]}

    queue = BatchQueue(signature(), run, BatchingConfig())
    submit(pool, queue, 0.0)
    assert entered.acquire(timeout=20)
    leader = submit(pool, queue, 1.0)
    until(lambda: waiting(queue) == 1)
    member = submit(pool, queue, 2.0, deadline=time.monotonic() + 1.0)
    until(lambda: waiting(queue) == 2)
    gates[0].set()
    assert entered.acquire(timeout=20)

    error = member.exception(20)

    assert isinstance(error, ServingError)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert not leader.done()
    gates[1].set()
    assert leader.result(20)["y"].tolist() == [1]
    assert calls_made == [1, 2]


def test_an_unforeseen_error_reaches_every_caller_and_the_queue_lives(
    pool: futures.Executor,
) -> None:
    gate = threading.Event()
    entered = threading.Semaphore(0)

    def run(inputs: Arrays) -> Arrays:
        entered.release()
        assert gate.wait(20)
        if len(inputs["x"]) > 1:
            raise KeyError("unforeseen")
        return {"y": inputs["x"]}

    queue = BatchQueue(signature(), run, BatchingConfig())
    submit(pool, queue, 0.0)
    assert entered.acquire(timeout=20)
    calls = [submit(pool, queue, value) for value in (1.0, 2.0)]
    until(lambda: waiting(queue) == 2)
    gate.set()

    assert [type(each.exception(20)) for each in calls] == [KeyError, KeyError]
    assert queue.run(request(5.0), FOREVER)["y"].tolist() == [5]
