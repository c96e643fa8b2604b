"""Senders of a load test, for gRPC and for REST.

Requests are serialized beforehand and answers are not decoded: the figures are those of the
server and the network, and the machine that asks is not what is measured.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from serving.client_support.config import ClientConfig
from serving.client_support.errors import ServingError, StatusCode, code_of_http
from serving.client_support.grpc_transport import call_metadata, code_of, open_channel
from serving.client_support.rest_transport import exchange, open_pool

Done = Callable[[StatusCode], None]


class GrpcSender:
    """Sends serialized messages to one method, answers arriving in gRPC's own thread."""

    def __init__(self, config: ClientConfig, method: str, messages: Sequence[bytes]) -> None:
        self._channel = open_channel(config)
        self._metadata = call_metadata(config)
        self._messages = messages
        # Neither serializer is given: bytes go in and come out.
        self._call = self._channel.unary_unary(method)

    def send(self, number: int, timeout: float, done: Done) -> None:
        """Sends a message; ``done`` hears of its end."""
        future = self._call.future(self._messages[number], timeout=timeout, metadata=self._metadata)
        future.add_done_callback(lambda ended: done(_outcome(ended)))

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


class RestSender:
    """Posts bodies to one URL from as many threads as calls may be under way.

    A request that finds all threads busy waits for one, and the wait is in its latency.
    """

    def __init__(
        self, config: ClientConfig, url: str, bodies: Sequence[bytes], threads: int
    ) -> None:
        self._largest = config.max_message_bytes
        # One for each thread: to open others under load would be in the latencies.
        self._pool = open_pool(replace(config, connections=threads))
        self._url = url
        self._bodies = bodies
        self._waiting: queue.SimpleQueue[tuple[int, float, Done] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"load-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, number: int, timeout: float, done: Done) -> None:
        """Hands a body to a thread; ``done`` hears of its end."""
        self._waiting.put((number, time.monotonic() + timeout, done))

    def close(self) -> None:
        """Ends the threads, once what is under way is over, and closes the connections."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._pool.clear()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            number, end, done = job
            left = end - time.monotonic()
            try:
                if left <= 0:
                    raise ServingError(StatusCode.DEADLINE_EXCEEDED, "no thread was free in time")
                status, _ = exchange(
                    self._pool,
                    "POST",
                    self._url,
                    left,
                    body=self._bodies[number],
                    largest=self._largest,
                )
                code = code_of_http(status)
            except ServingError as error:
                code = error.code
            done(code)


def _outcome(future: Any) -> StatusCode:
    if future.cancelled():
        return StatusCode.CANCELLED
    failure = future.exception()
    return StatusCode.OK if failure is None else code_of(failure)
