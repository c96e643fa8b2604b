"""Writes serving/protocol/tf_serving.pbtxt, which serving/protocol/messages.py builds from.

The messages of the API and of ``models.config`` are taken, descriptor by descriptor, from the
installed tensorflow and tensorflow-serving-api (both Apache-2.0). tensorflow-serving-api does not
ship the messages of ``batching.config`` and ``monitoring.config``; they come from two packages of
PyPI that carry what protoc made of the same Apache-2.0 files of tensorflow/serving::

    python -m pip download --no-deps -d /tmp/protos \\
        min-tfs-client==1.0.2 tensorflow-serving-config==0.0.2
    .venv/bin/python scripts/make_serving_protos.py /tmp/protos

``tests/serving/protocol/messages_test.py`` compares the result with the installed packages.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import sys
import zipfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, text_format

TARGET = Path(__file__).resolve().parents[1] / "serving" / "protocol" / "tf_serving.pbtxt"

# The services themselves are left out: tensorflow-serving-api 2.19's modules of them do not load
# under protobuf 6, and their method names are plain text.
API_MODULES = (
    "tensorflow_serving.apis.classification_pb2",
    "tensorflow_serving.apis.regression_pb2",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.inference_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.logging_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
)
WARMUP = "tensorflow_serving.apis.prediction_log_pb2"
MONITORING = "tensorflow_serving/config/monitoring_config_pb2.py"
BATCHING = "tensorflow_serving/servables/tensorflow/session_bundle_config_pb2.py"
WRAPPERS = "google/protobuf/wrappers.proto"


def main(argv: list[str] | None = None) -> int:
    """Writes the descriptors and prints what they were taken from."""
    parser = argparse.ArgumentParser(description="Writes the descriptors of TF Serving's API.")
    parser.add_argument("wheels", type=Path, help="folder of the two downloaded wheels")
    arguments = parser.parse_args(argv)

    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in API_MODULES:
        _collect(importlib.import_module(name).DESCRIPTOR, files)
    for added in (
        _without_session_runs(importlib.import_module(WARMUP).DESCRIPTOR),
        _from_wheel(arguments.wheels, "tensorflow_serving_config", MONITORING),
        _batching_only(_from_wheel(arguments.wheels, "min_tfs_client", BATCHING)),
    ):
        files[added.name] = added
    text = _header() + text_format.MessageToString(
        descriptor_pb2.FileDescriptorSet(file=files.values())
    )
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET}: {len(files)} files")
    return 0


def _header() -> str:
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("tensorflow", "tensorflow-serving-api", "protobuf")
    )
    return (
        "# Written by scripts/make_serving_protos.py; not to be edited by hand.\n"
        "# Descriptors of Apache-2.0 .proto files of tensorflow/tensorflow, tensorflow/serving\n"
        f"# and protobuf (BSD-3-Clause), as in {versions};\n"
        "# monitoring_config.proto as in tensorflow-serving-config 0.0.2;\n"
        "# BatchingParameters of session_bundle_config.proto as in min-tfs-client 1.0.2;\n"
        "# prediction_log.proto without SessionRunLog.\n"
    )


def _collect(descriptor: Any, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Adds a file after all that it depends on."""
    if descriptor.name in files:
        return
    for dependency in descriptor.dependencies:
        _collect(dependency, files)
    copied = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(copied)
    files[descriptor.name] = copied


def _without_session_runs(descriptor: Any) -> descriptor_pb2.FileDescriptorProto:
    """Leaves out requests for a session, whose settings would bring in half of TensorFlow."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    kept = [one for one in file.message_type if one.name != "SessionRunLog"]
    (log,) = (one for one in kept if one.name == "PredictionLog")
    fields = [one for one in log.field if one.name != "session_run_log"]
    del log.field[:], file.message_type[:]
    log.field.extend(fields)
    file.message_type.extend(kept)
    file.dependency[:] = [
        one for one in file.dependency if not one.endswith("session_service.proto")
    ]
    return file


def _from_wheel(folder: Path, package: str, module: str) -> descriptor_pb2.FileDescriptorProto:
    """Reads the serialized descriptor out of a generated module, without running it."""
    (wheel,) = folder.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read(module))
    literals = [
        node.value if isinstance(node.value, bytes) else node.value.encode("latin1")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes | str)
    ]
    source = module.replace("_pb2.py", ".proto").encode()
    (serialized,) = (one for one in literals if one.startswith(bytes([10, len(source)]) + source))
    return descriptor_pb2.FileDescriptorProto.FromString(serialized)


def _batching_only(
    file: descriptor_pb2.FileDescriptorProto,
) -> descriptor_pb2.FileDescriptorProto:
    """Keeps BatchingParameters; the session's own settings would bring in half of TensorFlow."""
    kept = [one for one in file.message_type if one.name == "BatchingParameters"]
    del file.message_type[:]
    file.message_type.extend(kept)
    file.dependency[:] = [WRAPPERS]
    return file


if __name__ == "__main__":
    sys.exit(main())
