"""What a signature takes and gives, and whether a request fits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.errors import Code, ServingError, invalid
from serving.server.tensors import numpy_dtype, to_array, type_name

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
DEFAULT_SIGNATURE = "serving_default"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output.

    Attributes:
        tensor: its name in the graph.
        number: TensorFlow's number of its type.
        dtype: numpy type, object for strings; None if the type cannot cross the API.
        shape: sizes, None for an open one; None if even the rank is open.
    """

    tensor: str
    number: int
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None

    @property
    def has_open_rows(self) -> bool:
        """Whether the leading dimension is open, and so may be a batch of rows."""
        return self.shape is None or (len(self.shape) > 0 and self.shape[0] is None)


class Signature:
    """A signature of a SavedModel.

    Attributes:
        name: its key.
        method: method name, such as ``tensorflow/serving/predict``.
        inputs: inputs by name, sorted.
        outputs: outputs by name, sorted.
        has_rows: whether every input and output has rows as its open leading dimension.
    """

    def __init__(self, name: str, definition: meta_graph_pb2.SignatureDef):
        self.name = name
        self.method: str = definition.method_name
        self.inputs = _specs(definition.inputs)
        self.outputs = _specs(definition.outputs)
        specs = [*self.inputs.values(), *self.outputs.values()]
        self.has_rows = bool(self.inputs) and all(spec.has_open_rows for spec in specs)
        self._defaults = {
            key: to_array(value, key, 1 << 30) for key, value in definition.defaults.items()
        }

    def complete(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Checks the inputs of a request and adds those with a default.

        Args:
            inputs: arrays by name.

        Returns:
            Arrays by name, one for each input.

        Raises:
            ServingError: names the input at fault, what was found and what is accepted.
        """
        full = {**self._defaults, **inputs} if self._defaults else dict(inputs)
        if full.keys() != self.inputs.keys():
            raise self._wrong_names(full)
        for key, spec in self.inputs.items():
            _check(key, spec, full[key])
        return full

    def check_outputs(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the outputs a request asks for: the given ones, or all of them.

        Raises:
            ServingError: one is not there, or is asked for twice.
        """
        chosen = tuple(names)
        for position, key in enumerate(chosen):
            if key not in self.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {key} Outputs expected to be "
                    f"in the set {_braces(self.outputs)}."
                )
            if key in chosen[:position]:
                raise invalid(f"duplicate output tensor alias: {key}")
        return chosen or tuple(self.outputs)

    def _wrong_names(self, found: Mapping[str, Any]) -> ServingError:
        extra = sorted(found.keys() - self.inputs.keys())
        missing = sorted(self.inputs.keys() - found.keys())
        return invalid(
            f"signature {self.name!r}: input size does not match signature: "
            f"{len(found)}!={len(self.inputs)} len({_braces(sorted(found))}) != "
            f"len({_braces(self.inputs)}). Sent extra: {_braces(extra)}. Missing but required: "
            f"{_braces(missing)}."
        )


def check_method(signature: Signature) -> None:
    """Refuses a signature that is none of the three kinds, such as one that loads the model."""
    if signature.method not in METHODS:
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {_braces(METHODS)}. "
            f"Was: {signature.method}",
        )


def _check(name: str, spec: TensorSpec, array: np.ndarray) -> None:
    if spec.dtype is None or array.dtype != spec.dtype:
        raise invalid(
            f"input {name!r}: {type_name(spec.number)} is expected, found "
            f"{'string' if array.dtype == np.object_ else array.dtype}"
        )
    if spec.shape is None:
        return
    fits = len(spec.shape) == array.ndim and all(
        expected is None or expected == found
        for expected, found in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ["?" if size is None else size for size in spec.shape]
        raise invalid(
            f"input {name!r}: shape [{', '.join(map(str, wanted))}] is expected, found "
            f"{list(array.shape)}"
        )


def _specs(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorSpec]:
    specs = {}
    for key in sorted(tensors):
        info = tensors[key]
        shape = None
        if not info.tensor_shape.unknown_rank:
            sizes = (dimension.size for dimension in info.tensor_shape.dim)
            shape = tuple(None if size < 0 else size for size in sizes)
        specs[key] = TensorSpec(
            tensor=info.name, number=info.dtype, dtype=numpy_dtype(info.dtype), shape=shape
        )
    return specs


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(names) + "}"
