"""The server as a whole: its parts, its start and its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.server.admission import Admission
from serving.server.calls import Calls
from serving.server.config import ModelSource, ServerConfig
from serving.server.grpc_api import model_service, prediction_service
from serving.server.grpc_api.health import Health
from serving.server.grpc_api.model_service import add_model_service
from serving.server.grpc_api.prediction_service import add_prediction_service
from serving.server.grpc_api.server import GrpcServer
from serving.server.inference import Inference
from serving.server.metrics import ServingMetrics
from serving.server.rest_api.requests import RestApi
from serving.server.rest_api.server import HttpServer
from serving.server.security import TokenGuard, grpc_credentials, http_context
from serving.server.versions.gently import run_gently
from serving.server.versions.manager import Manager
from serving.server.versions.model import Model
from serving.server.versions.sessions import Sessions
from serving.server.versions.version import ServedVersion
from serving.server.versions.warmup import warm

_LOG = logging.getLogger(__name__)

_QUIET_SECONDS = 0.2
_LEAVE_SECONDS = 1.0

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a server listens.

    Attributes:
        grpc: port of gRPC.
        rest: port of REST.
    """

    grpc: int
    rest: int


class Server:
    """Serves models over gRPC and REST, with the API of TensorFlow Serving.

    Attributes:
        manager: the models and their versions.
        metrics: what is counted.
    """

    def __init__(self, sources: Sequence[ModelSource], config: ServerConfig):
        """Puts the parts together; nothing runs yet.

        Args:
            sources: the models.
            config: everything else.

        Raises:
            ConfigError: a file of the security section cannot be used.
        """
        self._config = config
        self._stop_once = threading.Lock()
        self._stopped: bool | None = None
        self._at_rest = False
        self._credentials = grpc_credentials(config.security)
        self._guard = TokenGuard(config.security)
        tls = http_context(config.security)
        limits = config.limits
        self.metrics = ServingMetrics()
        self._sessions = Sessions(config.runtime, spare_seconds=config.versions.spare_seconds)
        self.manager = Manager(
            sources,
            config.versions,
            self._load,
            self.metrics,
            tidy=self._sessions.close_old_spares,
        )
        self._admission = Admission(limits.concurrent_calls, self.metrics)
        calls = Calls(self._admission, self.metrics, self.manager.knows)
        inference = Inference(self.manager, limits.request_bytes)
        self._grpc = GrpcServer(limits, self._guard.check_metadata)
        add_prediction_service(self._grpc, inference, calls, limits.call_seconds)
        add_model_service(self._grpc, self.manager)
        self._health = Health(self.manager, (prediction_service.SERVICE, model_service.SERVICE))
        self._health.add_to(self._grpc)
        api = RestApi(self.manager, inference, calls, self.metrics, limits.call_seconds)
        self._http = HttpServer(api, self._guard, limits, tls)

    def start(self) -> Ports:
        """Starts to load models and to listen.

        Raises:
            OSError: a port cannot be had.
        """
        listen = self._config.listen
        address = f"[{listen.host}]" if ":" in listen.host else listen.host
        grpc_port = self._grpc.listen(f"{address}:{listen.grpc_port}", self._credentials)
        rest_port = self._http.start(listen.host, listen.rest_port)
        self._grpc.start()
        self.manager.start()
        if listen.host not in _LOOPBACK and self._credentials is None:
            _LOG.warning("%s can be reached from outside, and there is no TLS", listen.host)
        return Ports(grpc=grpc_port, rest=rest_port)

    def stop(self) -> bool:
        """Stops: refuses new calls, lets those under way end, then frees the models.

        Returns:
            Whether all calls ended in time.
        """
        with self._stop_once:
            if self._stopped is None:
                self._stopped = self._stop()
            return self._stopped

    @property
    def at_rest(self) -> bool:
        """Whether nothing goes on after ``stop``: no load, and no call that was cut off."""
        return self._at_rest

    def _stop(self) -> bool:
        seconds = self._config.limits.drain_seconds
        self._health.stop()
        self.manager.stop()
        self._admission.close()
        self._http.stop_listening()
        # A call that gRPC has no thread for yet when it is stopped ends with CANCELLED, which no
        # client tries again. So callers are told UNAVAILABLE first, and given time to leave.
        self._admission.wait_until_left(_QUIET_SECONDS, _LEAVE_SECONDS)
        stopped = self._grpc.stop(seconds)
        idle = self._admission.wait_until_idle(seconds)
        stopped.wait(seconds)
        taken = self._http.close(seconds if idle else 0.0)
        self._grpc.close()
        self._at_rest = self.manager.close() and idle
        return idle and taken

    def _load(self, name: str, number: int, path: Path) -> ServedVersion:
        # Not gently: it holds Python's lock, which calls wait for, and it reads files that a pusher
        # may remove soon.
        model = Model(path, self._sessions)

        def warm_up() -> None:
            warm(model, path, self.metrics, make_up=self._config.versions.warm_without_requests)

        try:
            model.fill()
            if self.manager.serves(name):
                run_gently(warm_up)
            else:
                warm_up()
        except BaseException:
            model.close()
            raise
        return ServedVersion(name, number, path, model, self._config.batching, self.metrics)
