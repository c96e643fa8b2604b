"""gRPC's PredictionService."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.calls import Calls
from serving.server.grpc_api.server import GrpcServer, Method
from serving.server.inference import Inference

# The package's prediction_service_pb2, which would tell, cannot be imported with this protobuf.
SERVICE = "tensorflow.serving.PredictionService"


def add_prediction_service(
    server: GrpcServer, inference: Inference, calls: Calls, call_seconds: float
) -> None:
    """Adds the service to a server.

    Args:
        server: the server.
        inference: answers the calls.
        calls: bounds and counts them.
        call_seconds: deadline of a call that has none.
    """

    def bounded(api: str, answer: Method, model_of: Callable[[Any], str]) -> Method:
        def method(request: Any, deadline: float) -> Message:
            if math.isinf(deadline):
                deadline = time.monotonic() + call_seconds
            return calls.run(
                lambda: answer(request, deadline),
                model=model_of(request),
                api=api,
                entrypoint="GRPC",
                deadline=deadline,
            )

        return method

    def metadata(request: Any, deadline: float) -> Message:
        return inference.metadata(request)

    methods: dict[str, tuple[type[Message], Method]] = {
        "Predict": (
            predict_pb2.PredictRequest,
            bounded("Predict", inference.predict, _named),
        ),
        "Classify": (
            classification_pb2.ClassificationRequest,
            bounded("Classify", inference.classify, _named),
        ),
        "Regress": (
            regression_pb2.RegressionRequest,
            bounded("Regress", inference.regress, _named),
        ),
        "MultiInference": (
            inference_pb2.MultiInferenceRequest,
            bounded("MultiInference", inference.multi_inference, _first_named),
        ),
        "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, metadata),
    }
    server.add_service(SERVICE, methods)


def _named(request: Any) -> str:
    return str(request.model_spec.name)


def _first_named(request: Any) -> str:
    return str(request.tasks[0].model_spec.name) if request.tasks else ""
