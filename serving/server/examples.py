"""Classify and Regress: ``tf.Example``s in, classes or values out."""

from __future__ import annotations

import numpy as np
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from serving.server.errors import Code, ServingError, invalid
from serving.server.signature import CLASSIFY_METHOD, REGRESS_METHOD, Arrays, Signature

# TensorFlow Serving looks inputs and outputs up under these names and no others.
INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
OUTPUTS = "outputs"


def serialized(source: input_pb2.Input) -> np.ndarray:
    """Returns the examples of a request as serialized ``tf.Example``s [rows].

    Raises:
        ServingError: there are none.
    """
    kind = source.WhichOneof("kind")
    if kind == "example_list_with_context":
        listed = source.example_list_with_context
        # Two serialized messages one after the other are the merged message.
        context = listed.context.SerializeToString()
        rows = [context + example.SerializeToString() for example in listed.examples]
    else:
        rows = [example.SerializeToString() for example in source.example_list.examples]
    if not rows:
        raise invalid("Input is empty.")
    array = np.empty(len(rows), np.object_)
    array[:] = rows
    return array


def check_classify(signature: Signature) -> None:
    """Checks that a signature can answer Classify."""
    if signature.method != CLASSIFY_METHOD:
        raise invalid(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. "
            f"Was: {signature.method}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise _precondition(f"No classification inputs found in SignatureDef: {signature.name}")
    if not {CLASSES, SCORES} & signature.outputs.keys():
        raise _precondition(
            "Expected classification signature outputs to contain at least one of "
            f'"{CLASSES}" or "{SCORES}". Signature was: {signature.name}'
        )


def check_regress(signature: Signature) -> None:
    """Checks that a signature can answer Regress."""
    if signature.method != REGRESS_METHOD:
        raise invalid(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. "
            f"Was: {signature.method}"
        )
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise _precondition(f"No regression inputs found in SignatureDef: {signature.name}")
    if OUTPUTS not in signature.outputs:
        raise _precondition(f"No regression outputs found in SignatureDef: {signature.name}")


def classifications(outputs: Arrays, rows: int) -> classification_pb2.ClassificationResult:
    """Turns the outputs of a signature, [rows, classes] each, into the answer of Classify."""
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, array, dtype in ((CLASSES, classes, np.object_), (SCORES, scores, np.float32)):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}"
            )
        if array.dtype != dtype:
            wanted = "DT_STRING" if dtype is np.object_ else "DT_FLOAT"
            raise invalid(f"Expected {name} Tensor of {wanted}. Got: {array.dtype}")
        if array.shape[0] != rows:
            raise invalid(f"Expected {name} output batch size of {rows}. Got: {array.shape[0]}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    labels = [] if classes is None else classes.tolist()
    values = [] if scores is None else scores.tolist()
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    for row in range(rows):
        added = result.classifications.add().classes
        for column in range(width):
            found = added.add()
            if labels:
                found.label = _text(labels[row][column])
            if values:
                found.score = values[row][column]
    return result


def regressions(outputs: Arrays, rows: int) -> regression_pb2.RegressionResult:
    """Turns the output of a signature, [rows] or [rows, 1], into the answer of Regress."""
    values = outputs[OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(values.shape)}"
        )
    if values.shape[0] != rows:
        raise invalid(
            f"Input batch size did not match output batch size: {rows} vs. {values.shape[0]}"
        )
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add().value = value
    return result


def _text(label: bytes) -> str:
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid(f"{CLASSES}: labels of UTF-8 are expected, found other bytes") from None


def _precondition(message: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, message)
