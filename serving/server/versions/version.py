"""A version that is served: a model, its queues, and the calls under way on it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from serving.server.config import BatchingConfig
from serving.server.errors import invalid
from serving.server.metrics import ServingMetrics
from serving.server.signature import Arrays, Signature
from serving.server.versions.batching import BatchQueue
from serving.server.versions.model import Model

_LOG = logging.getLogger(__name__)


class ServedVersion:
    """A loaded version of a model.

    Attributes:
        name: name of the model.
        number: its number.
        path: its folder.
        model: the loaded SavedModel.
    """

    def __init__(
        self,
        name: str,
        number: int,
        path: Path,
        model: Model,
        batching: BatchingConfig,
        metrics: ServingMetrics,
    ):
        self.name = name
        self.number = number
        self.path = path
        self.model = model
        self._metrics = metrics
        self._queues = {
            signature.name: self._make_queue(signature, batching)
            for signature in model.signatures.values()
        }
        self._changed = threading.Condition()
        self._calls = 0
        self._closing = False

    def signature(self, name: str) -> Signature | None:
        """Returns a signature by its name, if the model has it."""
        return self.model.signatures.get(name)

    def run(self, signature: Signature, inputs: Arrays, deadline: float) -> Arrays:
        """Runs a signature on a request's inputs, perhaps together with other requests.

        Args:
            signature: one of this version's.
            inputs: arrays by name, as ``Signature.complete`` returns them.
            deadline: time of ``time.monotonic`` after which the answer is of no use.

        Returns:
            All outputs by name.

        Raises:
            ServingError: the deadline passed, or TensorFlow refused the call.
        """
        return self._queues[signature.name].run(inputs, deadline)

    def acquire(self) -> bool:
        """Counts a call in; False once the version is being let go."""
        with self._changed:
            if self._closing:
                return False
            self._calls += 1
            return True

    def release(self) -> None:
        """Counts a call out."""
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()

    def close(self, drain_seconds: float) -> bool:
        """Lets calls under way end, then frees the model.

        Args:
            drain_seconds: how long to wait for them.

        Returns:
            Whether they ended in time; if not, the model is freed when the last one ends.
        """
        with self._changed:
            self._closing = True
            drained = self._changed.wait_for(lambda: self._calls == 0, drain_seconds)
        if drained:
            self._free()
        else:
            _LOG.warning(
                "%s version %d: calls still run after %g s; it is freed when they end",
                self.name,
                self.number,
                drain_seconds,
            )
            threading.Thread(target=self._free_later, name="free-version", daemon=True).start()
        return drained

    def _free_later(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._calls == 0)
        self._free()

    def _free(self) -> None:
        self._queues = {}
        self.model.close()
        self._metrics.forget_warmup(str(self.path))
        _return_memory()

    def _make_queue(self, signature: Signature, batching: BatchingConfig) -> BatchQueue:
        def run(inputs: Arrays) -> Arrays:
            start = time.perf_counter()
            outputs = self.model.run(signature, inputs)
            self._metrics.runtime(self.name, time.perf_counter() - start)
            return outputs

        def observe(requests: int, rows: int) -> None:
            self._metrics.batch(self.name, signature.name, requests, rows)

        return BatchQueue(signature, run, batching, observe=observe)


@contextlib.contextmanager
def call_on(version: ServedVersion) -> Iterator[ServedVersion]:
    """Counts a call out at the end; it was counted in by ``acquire``."""
    try:
        yield version
    finally:
        version.release()


def find_signature(version: ServedVersion, name: str) -> Signature:
    """Returns a signature by its name.

    Raises:
        ServingError: there is none.
    """
    signature = version.signature(name)
    if signature is None:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    return signature


def _return_memory() -> None:
    """Gives freed memory back to the system, which glibc otherwise keeps for itself."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        # Not glibc.
        return
    trim(0)
