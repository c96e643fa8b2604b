"""Tiny servers for tests of the client: gRPC of given functions, and HTTP of given answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

Behaviour = Callable[[bytes, Any], bytes]
# Takes method, path, headers and body; gives status and body.
Respond = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, behaviours: Mapping[str, Behaviour]) -> None:
        self._behaviours = behaviours

    def service(self, details: Any) -> Any:
        behaviour = self._behaviours.get(details.method)
        return None if behaviour is None else grpc.unary_unary_rpc_method_handler(behaviour)


@contextlib.contextmanager
def grpc_server(
    behaviours: Mapping[str, Behaviour],
    *,
    credentials: Any = None,
    threads: int = 8,
    options: tuple[tuple[str, Any], ...] = (),
) -> Iterator[str]:
    """Serves functions of serialized messages by method path; yields the address."""
    server = grpc.server(futures.ThreadPoolExecutor(threads), options=options)
    server.add_generic_rpc_handlers((_Handlers(behaviours),))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def http_server(
    respond: Respond, *, connected: Callable[[int], None] = lambda port: None
) -> Iterator[str]:
    """Serves answers over HTTP/1.1, and tells the port of each new client; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connected(self.client_address[1])

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content = respond(self.command, self.path, self.headers, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # A client that has gone away is what some tests are about.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def late_proxy(address: str, pause: float) -> Iterator[str]:
    """Passes everything on to a server, but answers each connection late; yields the address."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def copy(source: socket.socket, target: socket.socket, wait: float) -> None:
            time.sleep(wait)
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    target.sendall(data)
            for one in (source, target):
                one.close()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listening.accept()
                    far = socket.create_connection((host, int(port)))
                    for arguments in ((near, far, 0.0), (far, near, pause)):
                        threading.Thread(target=copy, args=arguments, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def trickling_server(parts: Sequence[bytes], pause: float) -> Iterator[str]:
    """Answers every connection with the same bytes, part by part; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopped = threading.Event()

        def answer(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)
                    if stopped.wait(pause):
                        return

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stopped.set()
            listening.shutdown(socket.SHUT_RDWR)
