"""The HTTP port, on aiohttp's low-level server.

aiohttp is kept up, parses in C and is in the environment already; http.server is neither fast nor
meant for more than trials, and werkzeug's server is for development only. Its event loop reads
and writes in one thread, so that slow clients hold no thread, and hands whole requests to a pool.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from concurrent import futures
from typing import Any

from aiohttp import HttpVersion11, web

from serving.server.config import LimitsConfig
from serving.server.errors import Code, ServingError
from serving.server.rest_api.requests import HEALTH_PATH, Answer, RestApi, error_answer
from serving.server.security import TokenGuard

_LOG = logging.getLogger(__name__)

# Threads for status, metadata and metrics, which must be answered while all others are busy.
_SPARE_THREADS = 4
_START_SECONDS = 10.0
_CHUNK = 1 << 16
# Between two looks at whether all answers are sent.
_LOOK_SECONDS = 0.02


class HttpServer:
    """Serves the REST API from a thread of its own."""

    def __init__(
        self,
        api: RestApi,
        guard: TokenGuard,
        limits: LimitsConfig,
        tls: ssl.SSLContext | None,
    ):
        """Makes a server that does nothing until ``start``.

        Args:
            api: answers the requests.
            guard: refuses requests without the token.
            limits: sizes, times and counts.
            tls: TLS, or null for none.
        """
        self._api = api
        self._guard = guard
        self._limits = limits
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._calls = futures.ThreadPoolExecutor(
            limits.concurrent_calls, thread_name_prefix="http-call"
        )
        self._lookups = futures.ThreadPoolExecutor(_SPARE_THREADS, thread_name_prefix="http-lookup")
        self._pending = 0
        self._sending = 0
        self._stopping = False
        self._protocols: _Protocols | None = None
        self._listener: asyncio.Server | None = None

    def start(self, host: str, port: int) -> int:
        """Starts to listen; returns the port.

        Raises:
            OSError: the port cannot be had.
        """
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._listen(host, port), self._loop)
        return started.result(_START_SECONDS)

    def stop_listening(self) -> None:
        """Takes no more connections and no more requests; those under way go on."""
        asyncio.run_coroutine_threadsafe(self._stop_listening(), self._loop).result(_START_SECONDS)

    def close(self, seconds: float) -> bool:
        """Closes every connection and ends the thread.

        Args:
            seconds: how long clients may take to take their answers.

        Returns:
            Whether they took them.
        """
        closed = asyncio.run_coroutine_threadsafe(self._close(seconds), self._loop)
        taken = closed.result(seconds + _START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._lookups.shutdown(wait=False, cancel_futures=True)
        return taken

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_note)
        self._loop.run_forever()
        self._loop.close()

    async def _listen(self, host: str, port: int) -> int:
        self._protocols = _Protocols(self._handle, self._limits)
        self._listener = await self._loop.create_server(
            self._protocols,
            host,
            port,
            ssl=self._tls,
            backlog=1024,
            # A connection is made, and counted, only when the handshake is over.
            ssl_handshake_timeout=self._limits.header_seconds if self._tls else None,
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def _stop_listening(self) -> None:
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        if self._protocols is not None:
            self._protocols.pre_shutdown()

    async def _close(self, seconds: float) -> bool:
        end = self._loop.time() + seconds
        while (self._pending or self._sending) and self._loop.time() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        taken = not (self._pending or self._sending)
        if self._protocols is not None:
            await self._protocols.shutdown(1.0)
        return taken

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._protocols is not None:
            self._protocols.has_spoken(request.protocol)
        close = False
        try:
            answer = await self._answer(request)
        except _Unread as unread:
            # What is left of the body is not read, so the connection cannot be used again.
            answer, close = error_answer(unread.error), True
        except ServingError as error:
            answer = error_answer(error)
        except Exception as error:
            _LOG.exception("%s %s failed", request.method, request.rel_url.raw_path)
            text = f"{type(error).__name__}; the server's log has more"
            answer = error_answer(ServingError(Code.INTERNAL, text))
        response = web.Response(
            status=answer.status,
            body=answer.body,
            headers={"Content-Type": answer.content_type, **answer.headers},
        )
        if close or self._stopping:
            response.force_close()
        await self._send(request, response)
        return response

    async def _send(self, request: web.BaseRequest, response: web.Response) -> None:
        """Sends an answer; aiohttp itself waits for ever for a client that does not take it."""
        self._sending += 1
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._sending -= 1

    async def _answer(self, request: web.BaseRequest) -> Answer:
        method, path = request.method, request.rel_url.raw_path
        if path == HEALTH_PATH and method == "GET":
            return self._api.health(stopping=self._stopping)
        try:
            self._guard.check(request.headers.get("Authorization", ""))
        except ServingError as error:
            raise _Unread(error) from None
        body = await self._read(request)
        if not self._api.is_inference(method, path):
            return await self._loop.run_in_executor(
                self._lookups, self._api.answer, method, path, body
            )
        # Where all threads are busy the call would wait for one, and could not be refused.
        if self._pending >= self._limits.concurrent_calls:
            return self._api.refuse(path)
        self._pending += 1
        try:
            return await self._loop.run_in_executor(
                self._calls, self._api.answer, method, path, body
            )
        finally:
            self._pending -= 1

    async def _read(self, request: web.BaseRequest) -> bytes:
        most = self._limits.request_bytes
        if (request.content_length or 0) > most:
            raise _Unread(_too_large(most))
        try:
            await _ask_for_body(request)
            async with asyncio.timeout(self._limits.body_seconds):
                chunks, size = [], 0
                while chunk := await request.content.read(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise _Unread(_too_large(most))
                    chunks.append(chunk)
                return b"".join(chunks)
        except TimeoutError:
            raise _Unread(
                ServingError(
                    Code.DEADLINE_EXCEEDED,
                    f"the body did not arrive within {self._limits.body_seconds:g} s",
                    http_status=408,
                )
            ) from None
        except (web.RequestPayloadError, ConnectionError, ValueError) as error:
            raise _Unread(
                ServingError(
                    Code.INVALID_ARGUMENT, f"the body cannot be read: {type(error).__name__}"
                )
            ) from error


class _Unread(Exception):
    """A request that is answered before its body was read."""

    def __init__(self, error: ServingError):
        super().__init__(error.message)
        self.error = error


class _Protocols(web.Server):
    """Makes the protocol of each connection, and bounds their number and their silence."""

    def __init__(self, handler: object, limits: LimitsConfig):
        super().__init__(
            handler,  # type: ignore[arg-type]
            keepalive_timeout=limits.idle_seconds,
            lingering_time=0,
            access_log=None,
            logger=_quiet_logger(),
        )
        self._limits = limits
        self._silent: dict[object, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        # An answer is sent when the system has all of it.
        transport.set_write_buffer_limits(0)
        if len(self.connections) > self._limits.connections:
            transport.abort()
            return
        # aiohttp itself waits for the first headers for ever.
        self._silent[handler] = asyncio.get_running_loop().call_later(
            self._limits.header_seconds, transport.abort
        )

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        self.has_spoken(handler)
        super().connection_lost(handler, exc)

    def has_spoken(self, handler: object) -> None:
        """Notes that the first headers of a connection have come."""
        timer = self._silent.pop(handler, None)
        if timer is not None:
            timer.cancel()


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tells a client that waits for it, as curl does before a large body, to send the body."""
    expected = request.headers.get("Expect", "").lower()
    if expected == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Nothing of the answer itself was sent yet.
        request.writer.output_size = 0


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Notes what went wrong with a connection; a client that leaves at once is no news."""
    _LOG.debug("http: %s (%r)", context.get("message"), context.get("exception"))


def _too_large(most: int) -> ServingError:
    return ServingError(
        Code.INVALID_ARGUMENT, f"the body is larger than the {most} bytes accepted", http_status=413
    )


def _quiet_logger() -> logging.Logger:
    """aiohttp's log of broken requests, which would hold what a client sent."""
    logger = logging.getLogger("serving.server.rest_api.server.aiohttp")
    logger.setLevel(logging.CRITICAL + 1)
    return logger
