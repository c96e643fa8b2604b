"""Status and metadata messages as the client's own types."""

from __future__ import annotations

from typing import Any

from serving.client_support.results import (
    ModelMetadata,
    ModelStatus,
    Signature,
    TensorSpec,
    VersionState,
    VersionStatus,
)
from serving.protocol import messages
from serving.protocol.tensor_codec import data_type_name

_STATES = {number: VersionState(name) for name, number in messages.VERSION_STATES.items()}


def status_of(response: Any) -> ModelStatus:
    """Reads a ``GetModelStatusResponse``."""
    versions = [
        VersionStatus(
            version=one.version,
            state=_STATES.get(one.state, VersionState.UNKNOWN),
            error=one.status.error_message,
        )
        for one in response.model_version_status
    ]
    return ModelStatus(versions=tuple(sorted(versions, key=lambda one: -one.version)))


def metadata_of(spec: Any, signatures: Any) -> ModelMetadata:
    """Reads a ``ModelSpec`` and the ``SignatureDefMap`` that came with it."""
    return ModelMetadata(
        name=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        signatures={
            name: Signature(
                inputs={key: _tensor(info) for key, info in one.inputs.items()},
                outputs={key: _tensor(info) for key, info in one.outputs.items()},
                method_name=one.method_name,
            )
            for name, one in signatures.signature_def.items()
            # Ours and TensorFlow's own initialiser, which no one calls.
            if not name.startswith("__")
        },
    )


def _tensor(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
    return TensorSpec(dtype=data_type_name(info.dtype), shape=sizes)
