"""Bodies of the REST API to arrays and messages, and back.

A body becomes numpy arrays in whole columns; only a body that does not fit is walked value by
value, to name what is wrong with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.server.errors import ServingError, invalid
from serving.server.rest_api.values import fill_example, to_array
from serving.server.signature import Arrays, Signature, TensorSpec

SIGNATURE_NAME = "signature_name"
INSTANCES = "instances"
INPUTS = "inputs"
EXAMPLES = "examples"
CONTEXT = "context"
_B64 = "b64"
# An output of this suffix is bytes, any other string output is text.
_BYTES_SUFFIX = "_bytes"
# JSON numbers that are none to the fast parser.
_CONSTANTS = (b"NaN", b"Infinity")


def parse(body: bytes) -> dict[str, Any]:
    """Reads a JSON object; NaN, Infinity and -Infinity are numbers, as for TensorFlow Serving.

    Raises:
        ServingError: it is none.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _parse_with_constants(body, error)
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: Is not object, found {_kind(value)}")
    return value


def signature_name(document: Mapping[str, Any]) -> str:
    """Returns the signature that a body names, empty for the default one."""
    name = document.get(SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: not formatted correctly. '{SIGNATURE_NAME}' key must be a string value, "
            f"found {_kind(name)}"
        )
    return name


def predict_inputs(document: Mapping[str, Any], signature: Signature) -> tuple[Arrays, bool]:
    """Returns the inputs of a Predict body, and whether it is in row format.

    Raises:
        ServingError: names what is wrong.
    """
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {signature.name}")
    if INSTANCES in document and INPUTS in document:
        raise invalid(
            f"JSON Value: Not formatted correctly expecting only one of '{INPUTS}' or "
            f"'{INSTANCES}' keys to exist"
        )
    if INSTANCES in document:
        return _rows(document[INSTANCES], signature), True
    if INPUTS in document:
        return _columns(document[INPUTS], signature), False
    raise invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")


def example_input(document: Mapping[str, Any], method: str) -> input_pb2.Input:
    """Returns the examples of a Classify or Regress body.

    Raises:
        ServingError: names what is wrong.
    """
    if EXAMPLES not in document:
        raise invalid(
            f"JSON Value: When method is {method}, key '{EXAMPLES}' is expected and was not found"
        )
    listed = document[EXAMPLES]
    if not isinstance(listed, list):
        raise invalid(f"JSON Value: Expecting '{EXAMPLES}' value to be an list/array")
    if not listed:
        raise invalid(f"JSON Value: '{EXAMPLES}' value is an empty array")
    result = input_pb2.Input()
    if CONTEXT in document:
        target = result.example_list_with_context.examples
        fill_example(document[CONTEXT], result.example_list_with_context.context)
    else:
        target = result.example_list.examples
    for value in listed:
        fill_example(value, target.add())
    return result


def predictions(outputs: Mapping[str, np.ndarray], *, row_format: bool) -> bytes:
    """Returns the answer of Predict.

    Raises:
        ServingError: the outputs cannot be given in this format.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    values = {name: _plain(name, array) for name, array in outputs.items()}
    if not row_format:
        only = next(iter(values.values()))
        return _dump({"outputs": values if len(values) > 1 else only})
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and array.shape[0] != size:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} "
                f"expecting: {size}"
            )
        size = array.shape[0]
    if len(values) == 1:
        return _dump({"predictions": next(iter(values.values()))})
    names = list(values)
    rows = zip(*(list(column) for column in values.values()), strict=True)
    return _dump({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})


def classification_results(result: classification_pb2.ClassificationResult) -> bytes:
    """Returns the answer of Classify."""
    return _dump(
        {
            "results": [
                [[found.label, np.float32(found.score)] for found in row.classes]
                for row in result.classifications
            ]
        }
    )


def regression_results(result: regression_pb2.RegressionResult) -> bytes:
    """Returns the answer of Regress."""
    values = [regression.value for regression in result.regressions]
    return _dump({"results": np.array(values, np.float32)})


def error_body(error: ServingError) -> bytes:
    """Returns the body of an error."""
    return orjson.dumps({"error": error.message})


def dump_plain(value: Mapping[str, Any]) -> bytes:
    """Returns plain values as a body."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _parse_with_constants(body: bytes, error: orjson.JSONDecodeError) -> Any:
    if any(constant in body for constant in _CONSTANTS):
        try:
            value = json.loads(body)
            # json lets pass what is half a character, such as "\ud800", and no message can hold.
            orjson.dumps(value)
            return value
        except orjson.JSONEncodeError as halved:
            raise invalid(f"JSON Parse error: {halved}") from None
        except (ValueError, RecursionError):
            pass
    raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None


def _rows(instances: Any, signature: Signature) -> Arrays:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: Excepting '{INSTANCES}' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: No values in '{INSTANCES}' array")
    named = _is_named(instances[0])
    if not named and len(signature.inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    for position, instance in enumerate(instances):
        if _is_named(instance) != named:
            found = "list/value" if named else "object"
            wanted = "object" if named else "value/list"
            raise invalid(f"Expecting {wanted} but got {found} at item {position} of input list")
        if named and instance.keys() != signature.inputs.keys():
            raise invalid(
                f"Failed to process element: {position} of 'instances' list. JSON object: keys "
                f"must be equal to: {','.join(signature.inputs)}, found "
                f"{','.join(sorted(instance))}"
            )
    if not named:
        name, spec = next(iter(signature.inputs.items()))
        return {name: _array(instances, name, spec, "instances")}
    return {
        name: _array([instance[name] for instance in instances], name, spec, "instances")
        for name, spec in signature.inputs.items()
    }


def _columns(inputs: Any, signature: Signature) -> Arrays:
    if not _is_named(inputs):
        if len(signature.inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        name, spec = next(iter(signature.inputs.items()))
        return {name: _array(inputs, name, spec, "inputs")}
    for name in signature.inputs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    for name in inputs:
        if name not in signature.inputs:
            raise invalid(f"JSON object: does not have named input: {name}")
    return {
        name: _array(inputs[name], name, spec, "inputs") for name, spec in signature.inputs.items()
    }


def _array(value: Any, name: str, spec: TensorSpec, where: str) -> np.ndarray:
    try:
        return to_array(value, spec.number)
    except ServingError as error:
        raise ServingError(
            error.code, f"Failed to process input {name!r} of {where!r}: {error.message}"
        ) from None


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get(_B64), str))


def _plain(name: str, array: np.ndarray) -> Any:
    """Returns an output as what the JSON writer takes."""
    if array.dtype == np.object_:
        return _strings(name, array.tolist())
    if array.dtype.kind == "c":
        raise invalid(
            f"Tensor name: {name} Failed to write JSON value for tensor type: {array.dtype}"
        )
    if array.dtype.kind not in "biuf":
        # bfloat16 and its like.
        array = array.astype(np.float32)
    if array.ndim == 0:
        return array[()]
    if array.dtype.itemsize > 1 and array.dtype.isnative:
        return np.ascontiguousarray(array)
    return array.tolist()


def _strings(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(name, item) for item in value]
    if name.endswith(_BYTES_SUFFIX):
        return {_B64: base64.b64encode(value).decode("ascii")}
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(
            f"Tensor name: {name} holds bytes that are not UTF-8; an output whose name ends in "
            f"{_BYTES_SUFFIX} is given in base64"
        ) from None


def _dump(value: dict[str, Any]) -> bytes:
    if _is_finite(value):
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(_listed(value), separators=(",", ":")).encode("utf-8")


def _is_finite(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.floating):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    return not isinstance(value, list) or all(_is_finite(item) for item in value)


def _listed(value: Any) -> Any:
    """Returns arrays as lists, whose numbers are the shortest that read back the same."""
    if isinstance(value, np.ndarray):
        return [_listed(item) for item in value]
    if isinstance(value, np.floating):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    kinds = {dict: "Object", list: "Array", str: "String", bool: "Bool", type(None): "Null"}
    return kinds.get(type(value), "Number")
