"""A small model behind both protocols, without TensorFlow, for tests of what calls a server."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import google_crc32c
import grpc
import numpy as np

from serving.protocol import messages
from serving.protocol.tensor_codec import decode_tensor, encode_tensor
from tests.serving.fake_servers import Behaviour

SIGNATURES = messages.SignatureDefMap()
for _name, _inputs, _outputs in (
    ("serving_default", {"examples": "DT_STRING"}, {"score": "DT_FLOAT"}),
    ("sum", {"a": "DT_INT64", "b": "DT_INT64"}, {"sum": "DT_INT64", "text": "DT_STRING"}),
    ("rank", {"item_id": "DT_INT64", "candidate_count": "DT_INT64"}, {"score": "DT_FLOAT"}),
):
    _signature = SIGNATURES.signature_def[_name]
    _signature.method_name = "tensorflow/serving/predict"
    for _side, _tensors in ((_signature.inputs, _inputs), (_signature.outputs, _outputs)):
        for _key, _kind in _tensors.items():
            _side[_key].dtype = messages.DATA_TYPES[_kind]
            _side[_key].tensor_shape.dim.add().size = -1


def compute(inputs: Mapping[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
    if signature == "sum":
        total = inputs["a"] + inputs["b"]
        text = np.array([str(one).encode() for one in total.tolist()], dtype=object)
        return {"sum": total, "text": text}
    if signature == "rank":
        columns = np.arange(inputs["item_id"].shape[1])
        kept = columns < inputs["candidate_count"][:, np.newaxis]
        scores = np.where(kept, inputs["item_id"] / 8, 0).astype(np.float32)
        # As from a server that padded it to the width of another request.
        return {"score": np.pad(scores, [[0, 0], [0, 1]])}
    lengths = [len(one) for one in inputs["examples"].tolist()]
    return {"score": np.asarray(lengths, dtype=np.float32) / 7}


def serve_predict(data: bytes, context: Any) -> bytes:
    request = messages.PredictRequest.FromString(data)
    inputs = {name: decode_tensor(name, one) for name, one in request.inputs.items()}
    response = messages.PredictResponse()
    response.model_spec.CopyFrom(request.model_spec)
    response.model_spec.version.value = request.model_spec.version.value or 3
    for name, array in compute(inputs, request.model_spec.signature_name).items():
        if not request.output_filter or name in request.output_filter:
            response.outputs[name].CopyFrom(encode_tensor(name, array))
    return response.SerializeToString()


def first_value(example: Any) -> float:
    return example.features.feature["x"].float_list.value[0]


def serve_classify(data: bytes, context: Any) -> bytes:
    request = messages.ClassificationRequest.FromString(data)
    response = messages.ClassificationResponse(model_spec=request.model_spec)
    for example in request.input.example_list.examples:
        row = response.result.classifications.add()
        row.classes.add(label="0", score=1 - first_value(example))
        row.classes.add(label="1", score=first_value(example))
    return response.SerializeToString()


def serve_regress(data: bytes, context: Any) -> bytes:
    request = messages.RegressionRequest.FromString(data)
    response = messages.RegressionResponse(model_spec=request.model_spec)
    for example in request.input.example_list.examples:
        response.result.regressions.add(value=2 * first_value(example))
    return response.SerializeToString()


def serve_status(data: bytes, context: Any) -> bytes:
    request = messages.GetModelStatusRequest.FromString(data)
    if request.model_spec.name != "m":
        context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
    response = messages.GetModelStatusResponse()
    for version, state in ((2, "END"), (3, "AVAILABLE")):
        one = response.model_version_status.add()
        one.version, one.state = version, messages.VERSION_STATES[state]
    response.model_version_status[0].status.error_message = "did not load"
    return response.SerializeToString()


def serve_metadata(data: bytes, context: Any) -> bytes:
    request = messages.GetModelMetadataRequest.FromString(data)
    if request.model_spec.name != "m":
        context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
    assert list(request.metadata_field) == ["signature_def"]
    response = messages.GetModelMetadataResponse(model_spec=request.model_spec)
    response.model_spec.version.value = 3
    response.metadata["signature_def"].Pack(SIGNATURES)
    return response.SerializeToString()


def framed(records: list[bytes]) -> bytes:
    """Frames records as a TFRecord file, without the seconds that importing TensorFlow takes."""

    def crc(data: bytes) -> bytes:
        value = google_crc32c.value(data)
        return struct.pack("<I", (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    parts = []
    for record in records:
        header = struct.pack("<Q", len(record))
        parts += [header, crc(header), record, crc(record)]
    return b"".join(parts)


GRPC: dict[str, Behaviour] = {
    messages.PREDICT: serve_predict,
    messages.CLASSIFY: serve_classify,
    messages.REGRESS: serve_regress,
    messages.GET_MODEL_STATUS: serve_status,
    messages.GET_MODEL_METADATA: serve_metadata,
}

# As TensorFlow Serving writes it.
METADATA = {
    "model_spec": {"name": "m", "signature_name": "", "version": "3"},
    "metadata": {
        "signature_def": {
            "signature_def": {
                name: {
                    side: {
                        key: {
                            "dtype": next(
                                kind
                                for kind, number in messages.DATA_TYPES.items()
                                if number == tensor.dtype
                            ),
                            "tensor_shape": {
                                "dim": [{"size": "-1", "name": ""}],
                                "unknown_rank": False,
                            },
                            "name": f"{key}:0",
                        }
                        for key, tensor in getattr(signature, side).items()
                    }
                    for side in ("inputs", "outputs")
                }
                | {"method_name": signature.method_name}
                for name, signature in SIGNATURES.signature_def.items()
            }
        }
    },
}
STATUS = {
    "model_version_status": [
        {
            "version": "3",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        },
        {
            "version": "2",
            "state": "END",
            "status": {"error_code": "UNKNOWN", "error_message": "did not load"},
        },
    ]
}


def unwrap(value: Any) -> Any:
    if isinstance(value, list):
        return [unwrap(one) for one in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def respond(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
    def ok(answer: Any) -> tuple[int, bytes]:
        return 200, json.dumps(answer).encode()

    if not path.startswith("/v1/models/m"):
        return 404, b'{ "error": "Could not find any versions of model" }'
    if method == "GET":
        return ok(METADATA if path.endswith("/metadata") else STATUS)
    request = json.loads(body)
    if path.endswith(":predict"):
        kinds = {"examples": object}
        inputs = {
            name: np.asarray(unwrap(value), dtype=kinds.get(name))
            for name, value in request["inputs"].items()
        }
        arrays = compute(inputs, request["signature_name"])
        columns = {
            name: [one.decode() for one in array] if array.dtype == object else array.tolist()
            for name, array in arrays.items()
        }
        return ok({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})
    rows = [row["x"][0] for row in request["examples"]]
    if path.endswith(":classify"):
        return ok({"results": [[["0", 1 - x], ["1", x]] for x in rows]})
    return ok({"results": [2 * x for x in rows]})
