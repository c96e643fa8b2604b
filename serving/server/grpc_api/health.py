"""gRPC's standard health service.

The messages are built from their description here, in a pool of their own: the package that
ships them is no part of this project's environment, and a process that has it too is not
disturbed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from serving.server.errors import Code, ServingError
from serving.server.grpc_api.server import GrpcServer
from serving.server.versions.manager import Manager

SERVICE = "grpc.health.v1.Health"
_FILE = """
name: "grpc/health/v1/health.proto" package: "grpc.health.v1" syntax: "proto3"
message_type {
  name: "HealthCheckRequest"
  field { name: "service" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
}
message_type {
  name: "HealthCheckResponse"
  field {
    name: "status" number: 1 label: LABEL_OPTIONAL type: TYPE_ENUM
    type_name: ".grpc.health.v1.HealthCheckResponse.ServingStatus"
  }
  enum_type {
    name: "ServingStatus"
    value { name: "UNKNOWN" number: 0 } value { name: "SERVING" number: 1 }
    value { name: "NOT_SERVING" number: 2 } value { name: "SERVICE_UNKNOWN" number: 3 }
  }
}
"""
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_WATCH_SECONDS = 1.0
# A watcher holds a thread.
_MAX_WATCHERS = 8


def _classes() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_FILE, descriptor_pb2.FileDescriptorProto()))
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.health.v1.{name}"))
        for name in ("HealthCheckRequest", "HealthCheckResponse")
    )
    return request, response


HealthCheckRequest, HealthCheckResponse = _classes()


class Health:
    """Says whether the server, or a model by its name as the service, serves."""

    def __init__(self, manager: Manager, services: tuple[str, ...]):
        """Makes the service's state.

        Args:
            manager: holds the models.
            services: full names of the gRPC services, which serve when the server does.
        """
        self._manager = manager
        self._services = ("", *services)
        self._stopping = False
        self._watchers = 0

    def stop(self) -> None:
        """Says NOT_SERVING from now on."""
        self._stopping = True

    def status(self, service: str) -> int:
        """Returns the number of a service's status."""
        if service in self._services:
            serving = self._manager.ready()
        elif self._manager.knows(service):
            serving = self._manager.serves(service)
        else:
            return _SERVICE_UNKNOWN
        return _SERVING if serving and not self._stopping else _NOT_SERVING

    def add_to(self, server: GrpcServer) -> None:
        """Adds the service to a server; it asks for no token, since probes have none."""
        server.add_service(
            SERVICE,
            {"Check": (HealthCheckRequest, self._check)},
            streams={"Watch": (HealthCheckRequest, self._watch)},
            guarded=False,
        )

    def _check(self, request: Any, deadline: float) -> Any:
        status = self.status(request.service)
        if status == _SERVICE_UNKNOWN:
            raise ServingError(Code.NOT_FOUND, f"service {request.service!r} is not known")
        return HealthCheckResponse(status=status)

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if self._watchers >= _MAX_WATCHERS:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"{_MAX_WATCHERS} watchers are the most")
        self._watchers += 1
        try:
            last = None
            while context.is_active():
                status = self.status(request.service)
                if status != last:
                    yield HealthCheckResponse(status=status)
                    last = status
                if self._stopping:
                    return
                time.sleep(_WATCH_SECONDS)
        finally:
            self._watchers -= 1
