"""Calls of gRPC whose message has not arrived: they hold a thread, so their time is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from serving.server.errors import expired, invalid

# A message that is on its way may be held up by a burst of others.
_GRACE_SECONDS = 0.5
# Looks at the time in a grace.
_LOOKS = 4


class Arrivals:
    """Receives the one message of a call.

    gRPC gives a call its thread as soon as its headers are there; a client that sends no more
    would keep it for ever.
    """

    def __init__(self, seconds: float, most: int):
        """Makes a receiver.

        Args:
            seconds: how long a message may take to arrive.
            most: calls that may wait so long at once; when there are more, the oldest are given
                up after a short grace, since a message usually arrives with its headers.
        """
        self._seconds = seconds
        self._most = most
        self._look_seconds = min(seconds, _GRACE_SECONDS) / _LOOKS
        self._lock = threading.Lock()
        # Seconds of waiting by call, oldest first.
        self._waiting: dict[grpc.ServicerContext, float] = {}
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="arrivals", daemon=True)
        self._watcher.start()

    def receive(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Returns the first message of a call.

        Raises:
            ServingError: there is none, or it did not arrive in time.
        """
        with self._lock:
            self._waiting[context] = 0.0
        try:
            return next(messages)
        except StopIteration:
            raise invalid("a message is expected, found none") from None
        except grpc.RpcError:
            raise expired("before the request arrived") from None
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def close(self) -> None:
        """Ends the thread that watches the time."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._look_seconds):
            for context in self._late(self._look_seconds):
                context.cancel()

    def _late(self, passed: float) -> list[grpc.ServicerContext]:
        """Takes the calls out that have waited too long; the oldest come first.

        Args:
            passed: seconds since the last look. A look that comes late, as when the machine is
                busy, counts as one in time: this process has not waited for the client then, but
                the client for this process.
        """
        with self._lock:
            for context in self._waiting:
                self._waiting[context] += passed
            surplus = len(self._waiting) - self._most
            late = [
                context
                for position, (context, waited) in enumerate(self._waiting.items())
                if waited >= (_GRACE_SECONDS if position < surplus else self._seconds)
            ]
            for context in late:
                del self._waiting[context]
        return late
