"""The inference calls of the API, on parsed requests, whichever port they came by."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import examples
from serving.server.errors import Code, ServingError, invalid
from serving.server.signature import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    Arrays,
    Signature,
    check_method,
)
from serving.server.tensors import fill_proto, to_array
from serving.server.versions.manager import Manager
from serving.server.versions.version import ServedVersion, call_on

SIGNATURE_DEF = "signature_def"


class Inference:
    """Answers inference calls with the versions that a manager keeps loaded."""

    def __init__(self, manager: Manager, max_bytes: int):
        """Makes the calls.

        Args:
            manager: holds the models.
            max_bytes: largest tensor of a request.
        """
        self._manager = manager
        self._max_bytes = max_bytes

    def acquire(self, spec: model_pb2.ModelSpec) -> ServedVersion:
        """Finds the version that a request names and counts a call in on it.

        Raises:
            ServingError: there is none.
        """
        choice = spec.WhichOneof("version_choice")
        return self._manager.acquire(
            spec.name,
            number=spec.version.value if choice == "version" else None,
            label=spec.version_label if choice == "version_label" else None,
        )

    def predict(
        self, request: predict_pb2.PredictRequest, deadline: float
    ) -> predict_pb2.PredictResponse:
        """Answers Predict."""
        spec = request.model_spec
        with call_on(self.acquire(spec)) as version:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = version.signature(name)
            if signature is None:
                raise ServingError(
                    Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
                )
            check_method(signature)
            wanted = signature.check_outputs(request.output_filter)
            inputs = {
                key: to_array(tensor, key, self._max_bytes)
                for key, tensor in request.inputs.items()
            }
            outputs = version.run(signature, signature.complete(inputs), deadline)
            response = predict_pb2.PredictResponse()
            _fill_spec(response.model_spec, version, name)
        for key in wanted:
            fill_proto(outputs[key], signature.outputs[key].number, response.outputs[key])
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float
    ) -> classification_pb2.ClassificationResponse:
        """Answers Classify."""
        spec = request.model_spec
        with call_on(self.acquire(spec)) as version:
            signature = _find(version, spec.signature_name)
            rows = examples.serialized(request.input)
            result = self._classify(version, signature, rows, deadline)
            response = classification_pb2.ClassificationResponse(result=result)
            _fill_spec(response.model_spec, version, signature.name)
        return response

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float
    ) -> regression_pb2.RegressionResponse:
        """Answers Regress."""
        spec = request.model_spec
        with call_on(self.acquire(spec)) as version:
            signature = _find(version, spec.signature_name)
            rows = examples.serialized(request.input)
            result = self._regress(version, signature, rows, deadline)
            response = regression_pb2.RegressionResponse(result=result)
            _fill_spec(response.model_spec, version, signature.name)
        return response

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float
    ) -> inference_pb2.MultiInferenceResponse:
        """Answers MultiInference: several signatures of one model on the same examples."""
        _check_tasks(request.tasks)
        response = inference_pb2.MultiInferenceResponse()
        with call_on(self.acquire(request.tasks[0].model_spec)) as version:
            signatures = [_find_for_task(version, task) for task in request.tasks]
            rows = examples.serialized(request.input)
            for signature in signatures:
                result = response.results.add()
                _fill_spec(result.model_spec, version, signature.name)
                if signature.method == CLASSIFY_METHOD:
                    found = self._classify(version, signature, rows, deadline)
                    result.classification_result.CopyFrom(found)
                else:
                    regressions = self._regress(version, signature, rows, deadline)
                    result.regression_result.CopyFrom(regressions)
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answers GetModelMetadata."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with call_on(self.acquire(request.model_spec)) as version:
            for name, definition in version.model.definitions.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.model_spec.name = version.name
            response.model_spec.version.value = version.number
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def _classify(
        self, version: ServedVersion, signature: Signature, rows: np.ndarray, deadline: float
    ) -> classification_pb2.ClassificationResult:
        examples.check_classify(signature)
        return examples.classifications(self._run(version, signature, rows, deadline), len(rows))

    def _regress(
        self, version: ServedVersion, signature: Signature, rows: np.ndarray, deadline: float
    ) -> regression_pb2.RegressionResult:
        examples.check_regress(signature)
        return examples.regressions(self._run(version, signature, rows, deadline), len(rows))

    def _run(
        self, version: ServedVersion, signature: Signature, rows: np.ndarray, deadline: float
    ) -> Arrays:
        return version.run(signature, signature.complete({examples.INPUTS: rows}), deadline)


def _find(version: ServedVersion, name: str) -> Signature:
    chosen = name or DEFAULT_SIGNATURE
    signature = version.signature(chosen)
    if signature is None:
        raise invalid(f"No signature was found with the name: {chosen}")
    return signature


def _check_tasks(tasks: Any) -> None:
    if not tasks:
        raise invalid("tasks: at least one is expected, found none")
    seen = set()
    for task in tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)


def _find_for_task(version: ServedVersion, task: inference_pb2.InferenceTask) -> Signature:
    name = task.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = version.signature(name)
    if signature is None:
        raise invalid(f"Requested signature not found in model graph: {name}")
    if task.method_name == CLASSIFY_METHOD:
        examples.check_classify(signature)
    elif task.method_name == REGRESS_METHOD:
        examples.check_regress(signature)
    else:
        raise ServingError(
            Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
        )
    return signature


def _fill_spec(spec: model_pb2.ModelSpec, version: ServedVersion, signature: str) -> None:
    spec.name = version.name
    spec.version.value = version.number
    spec.signature_name = signature
