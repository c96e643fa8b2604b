"""The gRPC port: a synchronous server that parses messages itself.

It parses them itself so that a malformed message is answered with INVALID_ARGUMENT and its name;
gRPC's own answer would be INTERNAL without a reason. Methods are registered as taking a stream,
which is the same on the wire, so that the wait for the message can be bounded.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from serving.server.config import LimitsConfig
from serving.server.errors import ServingError, expired, invalid
from serving.server.grpc_api.arrivals import Arrivals

_LOG = logging.getLogger(__name__)

# Calls that are no inference, or are being refused, must find a thread while all others are busy.
_SPARE_THREADS = 16
# Calls whose message has not arrived yet.
_AWAITED = 32
# Calls above the bound that wait for a thread to refuse them; gRPC itself refuses what is more.
_REFUSED_AT_ONCE = 512

Method = Callable[[Any, float], Message]
Stream = Callable[[Any, grpc.ServicerContext], Iterable[Message]]
Guard = Callable[[Sequence[tuple[str, str | bytes]]], None]

_STATUS = {status.value[0]: status for status in grpc.StatusCode}


class GrpcServer:
    """The port, its threads and the services on it."""

    def __init__(self, limits: LimitsConfig, guard: Guard):
        """Makes a server without a port.

        Args:
            limits: sizes and counts.
            guard: refuses a call by its metadata.
        """
        self._guard = guard
        self._arrivals = Arrivals(limits.body_seconds, _AWAITED)
        threads = limits.concurrent_calls + _SPARE_THREADS + _AWAITED
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool,
            maximum_concurrent_rpcs=threads + _REFUSED_AT_ONCE,
            options=[
                ("grpc.max_receive_message_length", limits.request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )

    def add_service(
        self,
        full_name: str,
        methods: Mapping[str, tuple[type[Message], Method]],
        *,
        streams: Mapping[str, tuple[type[Message], Stream]] | None = None,
        guarded: bool = True,
    ) -> None:
        """Adds a service.

        Args:
            full_name: its name with the package; any method not given is UNIMPLEMENTED.
            methods: request class and function by the name of the method. The function takes
                the request and the deadline, a time of ``time.monotonic``, and returns the
                response.
            streams: the same for methods that answer with a stream; the function takes the
                request and the call.
            guarded: whether the guard is asked.
        """
        guard = self._guard if guarded else _no_guard
        handlers = {
            name: grpc.stream_unary_rpc_method_handler(self._handler(name, kind, method, guard))
            for name, (kind, method) in methods.items()
        }
        for name, (kind, stream) in (streams or {}).items():
            handlers[name] = grpc.stream_stream_rpc_method_handler(
                self._stream_handler(name, kind, stream, guard)
            )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(full_name, handlers)]
        )

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Binds a port; returns its number.

        Raises:
            OSError: it cannot be had.
        """
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC: {error}") from error

    def start(self) -> None:
        """Starts to answer."""
        self._server.start()

    def stop(self, seconds: float) -> threading.Event:
        """Takes no new calls, and ends those under way after ``seconds``.

        Returns:
            An event that is set when all have ended.
        """
        return self._server.stop(seconds)

    def close(self) -> None:
        """Lets go of the threads."""
        self._arrivals.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handler(self, name: str, kind: type[Message], method: Method, guard: Guard) -> Any:
        def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            try:
                guard(context.invocation_metadata())
                request = self._receive(name, kind, messages, context)
                return method(request, _deadline(context)).SerializeToString()
            except Exception as error:
                _refuse(name, error, context)
                return b""

        return handle

    def _stream_handler(self, name: str, kind: type[Message], stream: Stream, guard: Guard) -> Any:
        def handle(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                guard(context.invocation_metadata())
                request = self._receive(name, kind, messages, context)
                for response in stream(request, context):
                    yield response.SerializeToString()
            except Exception as error:
                _refuse(name, error, context)

        return handle

    def _receive(
        self,
        name: str,
        kind: type[Message],
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> Message:
        payload = self._arrivals.receive(messages, context)
        try:
            return kind.FromString(payload)
        except DecodeError:
            raise invalid(
                f"{name}: the request is not a {kind.DESCRIPTOR.full_name} message"
            ) from None


def _refuse(name: str, error: Exception, context: grpc.ServicerContext) -> None:
    """Answers a call with an error."""
    if isinstance(error, ServingError):
        context.set_code(_STATUS[int(error.code)])
        context.set_details(error.message)
        return
    _LOG.error("%s failed", name, exc_info=error)
    context.set_code(grpc.StatusCode.INTERNAL)
    context.set_details(f"{name}: {type(error).__name__}; the server's log has more")


def _no_guard(metadata: Sequence[tuple[str, str | bytes]]) -> None:
    """Lets every call pass."""


def _deadline(context: grpc.ServicerContext) -> float:
    remaining = context.time_remaining()
    # A call without a deadline has all the seconds there are.
    if remaining is None or remaining > threading.TIMEOUT_MAX:
        return math.inf
    if remaining <= 0 or not context.is_active():
        raise expired("before the call was begun")
    return time.monotonic() + remaining
