"""gRPC's ModelService: the state of models, and a new set of them."""

from __future__ import annotations

import math
import time
from typing import Any

from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
)

from serving.server.errors import invalid
from serving.server.grpc_api.server import GrpcServer, Method
from serving.server.versions.manager import Manager
from serving.server.versions.models_config import sources_from_proto

SERVICE = "tensorflow.serving.ModelService"

# A client without a deadline still gets an answer about models that never come up.
_RELOAD_SECONDS = 300.0


def add_model_service(server: GrpcServer, manager: Manager) -> None:
    """Adds the service to a server.

    Args:
        server: the server.
        manager: holds the models.
    """

    def status(request: Any, deadline: float) -> Message:
        return model_status(manager, request)

    def reload(request: Any, deadline: float) -> Message:
        seconds = _RELOAD_SECONDS if math.isinf(deadline) else deadline - time.monotonic()
        manager.reload(sources_from_proto(request.config), seconds)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    methods: dict[str, tuple[type[Message], Method]] = {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, status),
        "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, reload),
    }
    server.add_service(SERVICE, methods)


def model_status(manager: Manager, request: Any) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus.

    Raises:
        ServingError: there is no such model, version or label.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    number = None
    if spec.WhichOneof("version_choice") == "version":
        number = spec.version.value
    elif spec.WhichOneof("version_choice") == "version_label":
        number = manager.labelled(spec.name, spec.version_label)
    response = get_model_status_pb2.GetModelStatusResponse()
    for found in manager.status(spec.name, number):
        added = response.model_version_status.add()
        added.version = found.number
        added.state = int(found.state)
        added.status.error_code = int(found.code)
        added.status.error_message = found.message
    return response
