"""Message classes of TensorFlow Serving's API, without TensorFlow.

``tensorflow_serving.apis`` imports all of TensorFlow. These classes are built at import from
descriptors kept as package data, in a descriptor pool of their own, so that a process may import
this module and TensorFlow in either order: protobuf's default pool, where two descriptions of one
file would clash, is not touched. On the wire they are the same messages.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

DESCRIPTORS = "tf_serving.pbtxt"


def load_descriptors() -> Any:
    """Reads the ``FileDescriptorSet`` that is kept as package data."""
    text = resources.files("serving.protocol").joinpath(DESCRIPTORS).read_text(encoding="utf-8")
    return text_format.Parse(text, descriptor_pb2.FileDescriptorSet())


def _build_pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    # The files stand after those that they depend on.
    for file in load_descriptors().file:
        pool.Add(file)
    return pool


_POOL = _build_pool()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def _enum(name: str) -> dict[str, int]:
    return {value.name: value.number for value in _POOL.FindEnumTypeByName(name).values}


TensorProto = _message("tensorflow.TensorProto")
Example = _message("tensorflow.Example")

PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
ClassificationRequest = _message("tensorflow.serving.ClassificationRequest")
ClassificationResponse = _message("tensorflow.serving.ClassificationResponse")
RegressionRequest = _message("tensorflow.serving.RegressionRequest")
RegressionResponse = _message("tensorflow.serving.RegressionResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")

ModelServerConfig = _message("tensorflow.serving.ModelServerConfig")
SavedModel = _message("tensorflow.SavedModel")
BatchingParameters = _message("tensorflow.serving.BatchingParameters")
MonitoringConfig = _message("tensorflow.serving.MonitoringConfig")
PredictionLog = _message("tensorflow.serving.PredictionLog")

# Numbers by name.
DATA_TYPES = _enum("tensorflow.DataType")
VERSION_STATES = _enum("tensorflow.serving.ModelVersionStatus.State")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
