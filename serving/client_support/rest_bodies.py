"""Bodies of the REST API: requests as JSON, and answers as arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.client_support.results import ClassScore, Signature
from serving.protocol import messages
from serving.protocol.tensor_codec import b64, from_json, to_json

_LONGEST_ERROR = 500


def predict_body(inputs: Mapping[str, Any], signature_name: str) -> bytes:
    """Builds the body of a Predict call in columns.

    Raises:
        ValueError: an input cannot be sent; names it.
    """
    columns = {name: to_json(name, values) for name, values in inputs.items()}
    return json.dumps({"signature_name": signature_name, "inputs": columns}).encode("utf-8")


def example_body(examples: Sequence[bytes], signature_name: str) -> bytes:
    """Builds the body of a Classify or Regress call from serialized ``tf.Example``s."""
    rows = [example_json(messages.Example.FromString(one)) for one in examples]
    return json.dumps({"signature_name": signature_name, "examples": rows}).encode("utf-8")


def example_json(example: Any) -> dict[str, Any]:
    """Returns a ``tf.Example`` as the JSON of the REST API; features without a value fall away."""
    row: dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is None:
            continue
        values = list(getattr(feature, kind).value)
        if values:
            row[name] = [b64(value) for value in values] if kind == "bytes_list" else values
    return row


def outputs_of(outputs: Any, signature: Signature) -> dict[str, np.ndarray]:
    """Reads ``outputs`` of a Predict answer, typed as the signature says.

    Raises:
        ValueError: the answer is not of that signature.
    """
    # A single output comes without its name.
    if len(signature.outputs) == 1 and not isinstance(outputs, dict):
        outputs = {next(iter(signature.outputs)): outputs}
    if not isinstance(outputs, dict):
        raise ValueError(f"outputs by name are expected, found {type(outputs).__name__}")
    unknown = [name for name in outputs if name not in signature.outputs]
    if unknown:
        raise ValueError(f"output {unknown[0]!r} is not in the signature")
    return {
        name: from_json(name, value, signature.outputs[name].dtype)
        for name, value in outputs.items()
    }


def classes_of(results: Sequence[Any]) -> tuple[tuple[ClassScore, ...], ...]:
    """Reads the results of a Classify answer.

    Raises:
        ValueError: they are not pairs of label and score.
    """
    return tuple(
        tuple(ClassScore(label=str(label), score=float(score)) for label, score in row)
        for row in results
    )


def error_text(status: int, content: bytes) -> str:
    """Returns what a failed call says: the ``error`` of its JSON, or else its text."""
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and "error" in parsed:
        return str(parsed["error"])
    text = content[:_LONGEST_ERROR].decode("utf-8", "replace").strip()
    return f"HTTP {status}: {text}" if text else f"HTTP {status}"
