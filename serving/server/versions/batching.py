"""Micro-batching: requests that wait at the same time share one TensorFlow call.

There is one queue for each signature of each version, so that answers cannot cross between
signatures. It has no thread of its own: a caller that finds the queue idle becomes its leader and
runs a batch in its own thread, so that a lone caller pays nothing; callers that arrive meanwhile
wait, and the leader hands over to the oldest of them when its batch is done.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.server.config import BatchingConfig
from serving.server.errors import Code, ServingError, expired
from serving.server.signature import Arrays, Signature

Run = Callable[[Arrays], Arrays]

_WAITING, _TAKEN, _DONE, _LEADS = range(4)


class _Task:
    """A request in the queue; its state changes under the queue's lock only."""

    __slots__ = ("deadline", "error", "inputs", "key", "outputs", "rows", "state", "wake")

    def __init__(self, inputs: Arrays, rows: int, key: Any, deadline: float):
        self.inputs = inputs
        self.rows = rows
        self.key = key
        self.deadline = deadline
        self.state = _WAITING
        self.outputs: Arrays = {}
        self.error: BaseException | None = None
        self.wake = threading.Event()


class BatchQueue:
    """Merges requests to one signature of one version."""

    def __init__(
        self,
        signature: Signature,
        run: Run,
        config: BatchingConfig,
        *,
        observe: Callable[[int, int], None] | None = None,
    ):
        """Makes an empty queue.

        Args:
            signature: the signature.
            run: runs it once on arrays by name; must allow calls from several threads.
            config: when to merge.
            observe: told the requests and the rows of each batch that was run.
        """
        self._run = run
        self._signature = signature
        self._config = config
        self._observe = observe or (lambda requests, rows: None)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiting: deque[_Task] = deque()
        self._leaders = 0
        self._merges = config.enabled and signature.has_rows

    def run(self, inputs: Arrays, deadline: float) -> Arrays:
        """Runs the signature on the inputs of one request.

        Args:
            inputs: arrays by name, checked against the signature.
            deadline: time of ``time.monotonic`` after which the answer is of no use.

        Returns:
            Outputs by name, of this request's rows only.

        Raises:
            ServingError: the deadline passed, or TensorFlow refused the call.
        """
        rows = self._rows(inputs)
        if rows is None:
            if time.monotonic() >= deadline:
                raise expired("before the model was run")
            sizes = (array.shape[0] for array in inputs.values() if array.ndim)
            self._observe(1, max(sizes, default=1))
            return self._run(inputs)
        task = _Task(inputs, rows, self._key(inputs), deadline)
        with self._lock:
            if self._leaders < self._config.parallel_batches:
                self._leaders += 1
                task.state = _LEADS
            else:
                self._waiting.append(task)
                self._arrived.notify()
        if task.state != _LEADS:
            self._wait(task)
        if task.state == _LEADS:
            self._lead(task)
        if task.error is not None:
            raise task.error
        return task.outputs

    def _rows(self, inputs: Arrays) -> int | None:
        """Rows of a request that may be merged, or None."""
        if not self._merges:
            return None
        sizes = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
        rows = sizes.pop()
        if sizes or not 0 < rows < min(self._config.bypass_rows, self._config.max_rows + 1):
            return None
        if sum(array.nbytes for array in inputs.values()) >= self._config.bypass_bytes:
            return None
        return rows

    def _key(self, inputs: Arrays) -> Any:
        """What two requests must share to be merged."""
        if self._config.pad_variable_length_inputs:
            return tuple(array.ndim for array in inputs.values())
        return tuple(inputs[key].shape[1:] for key in self._signature.inputs)

    def _wait(self, task: _Task) -> None:
        remaining = task.deadline - time.monotonic()
        if task.wake.wait(min(max(remaining, 0.0), threading.TIMEOUT_MAX)):
            return
        with self._lock:
            if task.state == _WAITING:
                self._waiting.remove(task)
                raise expired("while the request waited for the model")
            if task.state == _TAKEN:
                raise expired("while the model ran")

    def _lead(self, task: _Task) -> None:
        """Runs one batch, which holds the leader's own request, and hands over."""
        try:
            self._linger(task)
            self._answer(self._take(task))
        finally:
            with self._lock:
                if self._waiting:
                    successor = self._waiting.popleft()
                    successor.state = _LEADS
                    successor.wake.set()
                else:
                    self._leaders -= 1

    def _linger(self, leader: _Task) -> None:
        """Waits for others to join, at most as long as the configuration says."""
        if not self._config.timeout_micros:
            return
        until = min(time.monotonic() + self._config.timeout_micros / 1e6, leader.deadline)
        with self._lock:
            while leader.rows + sum(task.rows for task in self._waiting) < self._config.max_rows:
                remaining = until - time.monotonic()
                if remaining <= 0:
                    return
                self._arrived.wait(remaining)

    def _take(self, leader: _Task) -> list[_Task]:
        """Takes the leader's request and all that can go with it, in order of arrival."""
        now = time.monotonic()
        if leader.deadline <= now:
            self._finish(leader, error=expired("while the request waited for the model"))
            return []
        batch = [leader]
        left: deque[_Task] = deque()
        rows = leader.rows
        with self._lock:
            for task in self._waiting:
                if task.deadline <= now:
                    self._finish(task, error=expired("while the request waited for the model"))
                elif task.key == leader.key and rows + task.rows <= self._config.max_rows:
                    task.state = _TAKEN
                    batch.append(task)
                    rows += task.rows
                else:
                    left.append(task)
            self._waiting = left
        return batch

    def _answer(self, batch: list[_Task]) -> None:
        if not batch:
            return
        if len(batch) == 1 or self._is_too_wide(batch):
            for task in batch:
                self._observe(1, task.rows)
                self._run_alone(task)
            return
        self._observe(len(batch), sum(task.rows for task in batch))
        try:
            outputs = self._run(self._merge(batch))
        except ServingError as error:
            if error.code is Code.RESOURCE_EXHAUSTED:
                self._fail(batch, error)
            else:
                # One bad request must not fail the others.
                for task in batch:
                    self._run_alone(task)
            return
        except BaseException as error:
            self._fail(batch, error)
            raise
        total = sum(task.rows for task in batch)
        if any(array.ndim == 0 or array.shape[0] != total for array in outputs.values()):
            # The rows of this signature do not come back one for one.
            self._merges = False
            for task in batch:
                self._run_alone(task)
            return
        start = 0
        for task in batch:
            end = start + task.rows
            self._finish(task, outputs={key: array[start:end] for key, array in outputs.items()})
            start = end

    def _run_alone(self, task: _Task) -> None:
        if task.deadline <= time.monotonic():
            # It passed while the batch ran that this request was in first.
            self._finish(task, error=expired("while the model ran"))
            return
        try:
            self._finish(task, outputs=self._run(task.inputs))
        except ServingError as error:
            self._finish(task, error=error)
        except BaseException as error:
            self._finish(task, error=error)
            raise

    def _is_too_wide(self, batch: list[_Task]) -> bool:
        """Whether padding takes more than the largest requests that may be merged.

        Of two inner dimensions each is padded to the largest: 1 x 8,000 and 8,000 x 1 would become
        8,000 x 8,000.
        """
        if not self._config.pad_variable_length_inputs:
            return False
        rows = sum(task.rows for task in batch)
        size = 0
        for key in self._signature.inputs:
            arrays = [task.inputs[key] for task in batch]
            inner = map(max, zip(*(array.shape[1:] for array in arrays), strict=True))
            size += rows * math.prod(inner) * arrays[0].itemsize
        return size > self._config.max_rows * self._config.bypass_bytes

    def _merge(self, batch: list[_Task]) -> Arrays:
        merged = {}
        for key in self._signature.inputs:
            arrays = [task.inputs[key] for task in batch]
            if self._config.pad_variable_length_inputs:
                arrays = _padded(arrays)
            merged[key] = np.concatenate(arrays)
        return merged

    def _fail(self, batch: list[_Task], error: BaseException) -> None:
        for task in batch:
            self._finish(task, error=error)

    @staticmethod
    def _finish(
        task: _Task, *, outputs: Arrays | None = None, error: BaseException | None = None
    ) -> None:
        task.outputs = outputs or {}
        task.error = error
        task.state = _DONE
        task.wake.set()


def _padded(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Gives arrays of one rank the same inner sizes, filling up with zeros or empty strings."""
    inner = tuple(np.max([array.shape[1:] for array in arrays], axis=0))
    result = []
    for array in arrays:
        if array.shape[1:] != inner:
            filler: Any = b"" if array.dtype == np.object_ else 0
            full = np.full((array.shape[0], *inner), filler, array.dtype)
            full[tuple(slice(size) for size in array.shape)] = array
            array = full
        result.append(array)
    return result
