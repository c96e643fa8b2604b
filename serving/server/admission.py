"""Bounds the calls under way: what comes above is refused at once instead of waiting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from serving.server.errors import Code, ServingError, stopping
from serving.server.metrics import ServingMetrics


class Admission:
    """Counts inference calls in and out."""

    def __init__(self, most: int, metrics: ServingMetrics):
        self._most = most
        self._metrics = metrics
        self._changed = threading.Condition()
        self._under_way = 0
        self._closed = False
        self._refused_at = 0.0

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Holds a place for one call.

        Raises:
            ServingError: no place is free, or the server is about to stop.
        """
        with self._changed:
            if self._closed:
                self._refused_at = time.monotonic()
                raise stopping()
            if self._under_way >= self._most:
                raise self.overloaded()
            self._under_way += 1
            self._metrics.outstanding.put(value=self._under_way)
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._metrics.outstanding.put(value=self._under_way)
                self._changed.notify_all()

    def overloaded(self) -> ServingError:
        """Counts a refused call, and returns the error it is answered with."""
        self._metrics.shed.add()
        return ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"{self._most} calls are under way, which is the most this server takes; "
            "try again later",
            # TensorFlow Serving answers 503 when its queue is full.
            http_status=503,
        )

    def close(self) -> None:
        """Refuses new calls from now on."""
        with self._changed:
            self._closed = True
            self._refused_at = time.monotonic()

    def wait_until_left(self, quiet_seconds: float, seconds: float) -> None:
        """Waits until nobody calls any more, once ``close`` was called.

        Args:
            quiet_seconds: time without a call that is long enough.
            seconds: longest wait, for callers that call again at once.
        """
        end = time.monotonic() + seconds
        while (left := min(self._refused_at + quiet_seconds, end) - time.monotonic()) > 0:
            time.sleep(left)

    def wait_until_idle(self, seconds: float) -> bool:
        """Waits for calls under way to end; returns whether they did."""
        with self._changed:
            return self._changed.wait_for(lambda: self._under_way == 0, seconds)
