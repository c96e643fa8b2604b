"""Predict over gRPC, driven with the stubs of tensorflow-serving-api."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
)

from tests.serving.server.grpc_api.refusals import refused
from tests.serving.servers import Running, predict_request

MIXED = {
    "ids": np.array([1, 2], np.int64),
    "values": np.array([[0.5, 1.5, 2.0], [4.0, 0.0, 1.0]], np.float32),
    "names": np.array([b"a", b"\xff"], object),
}


def test_predict_answers_every_output_with_its_type(server: Running) -> None:
    outputs = server.predict(MIXED, "mixed")

    np.testing.assert_array_equal(outputs["total"], np.array([6.0, 9.0], np.float32))
    np.testing.assert_array_equal(outputs["ids"], [1, 2])
    assert outputs["name"].tolist() == [b"a", b"\xff"]


def test_predict_reads_tensor_content_and_typed_fields_alike(server: Running) -> None:
    request = predict_request({"x": [1.5, -2.0]})
    content = predict_pb2.PredictRequest()
    content.CopyFrom(request)
    content.inputs["x"].ClearField("tensor_content")
    content.inputs["x"].ClearField("float_val")
    content.inputs["x"].tensor_content = np.array([1.5, -2.0], np.float32).tobytes()
    typed = predict_pb2.PredictRequest()
    typed.CopyFrom(content)
    typed.inputs["x"].ClearField("tensor_content")
    typed.inputs["x"].float_val.extend([1.5, -2.0])

    answers = [server.prediction.Predict(each, timeout=20) for each in (content, typed)]

    for answer in answers:
        assert list(answer.outputs["y"].float_val) == [3.0, -4.0]


def test_predict_names_the_version_and_signature_that_answered(server: Running) -> None:
    response = server.prediction.Predict(predict_request({"x": [1.0]}), timeout=20)

    assert response.model_spec.name == "tiny"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_predict_gives_only_the_outputs_of_the_filter(server: Running) -> None:
    request = predict_request(MIXED, "mixed")
    request.output_filter.extend(["ids"])

    assert list(server.prediction.Predict(request, timeout=20).outputs) == ["ids"]


def test_predict_carries_the_types_beyond_floats_and_integers(server: Running) -> None:
    outputs = server.predict({"flags": np.array([[True, False]])}, "flags")

    for name, dtype in (
        ("half", np.float16),
        ("double", np.float64),
        ("int32", np.int32),
        ("uint8", np.uint8),
        ("bool", np.bool_),
    ):
        assert outputs[name].dtype == dtype
        np.testing.assert_array_equal(outputs[name], np.array([[1, 0]], dtype))


def test_predict_carries_text_and_numbers_without_a_shape(server: Running) -> None:
    found = server.predict({"x": [1.0, 2.0]}, "lone")

    assert found["text"].shape == ()
    assert found["text"].item() == b"6.0"
    assert float(found["half"]) == 6.0


def test_predict_carries_complex_numbers_in_their_shape(server: Running) -> None:
    assert server.predict({"x": [1.0, 3.0]}, "turned")["y"].tolist() == [1 + 2j, 3 + 6j]


def test_predict_runs_a_signature_whose_output_has_no_rows(server: Running) -> None:
    assert server.predict({"x": [1.0, 2.0, 4.0]}, "total")["sum"] == 7.0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"model": ""}, "INVALID_ARGUMENT", ["no name"]),
        ({"model": "other"}, "NOT_FOUND", ["Servable not found", "Latest(other)"]),
        ({"version": 9}, "NOT_FOUND", ["Servable not found", "Specific(tiny, 9)"]),
        ({"label": "stable"}, "INVALID_ARGUMENT", ["label", "stable"]),
        ({"model": "other", "label": "new"}, "INVALID_ARGUMENT", ["label", "new"]),
    ],
)
def test_a_model_that_is_not_there(
    server: Running, change: dict[str, Any], code: str, words: list[str]
) -> None:
    found, text = refused(server.prediction.Predict, predict_request({"x": [1.0]}, **change))

    assert found == code
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("inputs", "signature", "code", "words"),
    [
        ({"x": [1.0]}, "none", "FAILED_PRECONDITION", ['"none"', "not found"]),
        ({"x": [1.0]}, "__saved_model_init_op", "INTERNAL", ["method_name"]),
        ({"z": [1.0]}, "", "INVALID_ARGUMENT", ["Sent extra: {z}", "Missing but required: {x}"]),
        ({}, "", "INVALID_ARGUMENT", ["Missing but required: {x}"]),
        ({"x": [1]}, "", "INVALID_ARGUMENT", ["'x'", "float32", "int64"]),
        ({"x": ["a"]}, "", "INVALID_ARGUMENT", ["'x'", "float32", "string"]),
        ({"x": [[1.0]]}, "", "INVALID_ARGUMENT", ["'x'", "[?]", "[1, 1]"]),
        ({"x": 1.0}, "", "INVALID_ARGUMENT", ["'x'", "[?]", "[]"]),
        ({"flags": [[True]]}, "flags", "INVALID_ARGUMENT", ["'flags'", "[?, 2]", "[1, 1]"]),
        ({"x": [-1.0]}, "positive", "INVALID_ARGUMENT", ["x: negative"]),
        (
            {**MIXED, "ids": np.array([1, 2, 3], np.int64)},
            "mixed",
            "INVALID_ARGUMENT",
            ["Incompatible shapes"],
        ),
    ],
)
def test_inputs_that_do_not_fit(
    server: Running, inputs: dict[str, Any], signature: str, code: str, words: list[str]
) -> None:
    found, text = refused(server.prediction.Predict, predict_request(inputs, signature))

    assert found == code
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("names", "words"),
    [(["z"], ["z", "{y}"]), (["y", "y"], ["duplicate", "y"])],
)
def test_an_output_filter_that_does_not_fit(
    server: Running, names: list[str], words: list[str]
) -> None:
    request = predict_request({"x": [1.0]})
    request.output_filter.extend(names)

    code, text = refused(server.prediction.Predict, request)

    assert code == "INVALID_ARGUMENT"
    assert all(word in text for word in words), text


def broken_tensor(kind: str) -> tf.make_tensor_proto:
    tensor = tf.make_tensor_proto(np.array([1.0, 2.0], np.float32))
    if kind == "content too short":
        tensor.tensor_content = tensor.tensor_content[:-1]
    elif kind == "negative size":
        tensor.tensor_shape.dim[0].size = -2
    elif kind == "unknown rank":
        tensor.tensor_shape.unknown_rank = True
    elif kind == "resource":
        tensor.dtype = tf.resource.as_datatype_enum
    elif kind == "no type":
        tensor.dtype = 0
    elif kind == "a shape of terabytes":
        tensor.ClearField("tensor_content")
        tensor.float_val.append(1.0)
        tensor.tensor_shape.dim[0].size = 1 << 40
    elif kind == "too many values":
        tensor.ClearField("tensor_content")
        tensor.float_val.extend([1.0, 2.0, 3.0])
    elif kind == "no values":
        tensor.ClearField("tensor_content")
    elif kind == "nothing of a size beyond all":
        tensor.ClearField("tensor_content")
        tensor.tensor_shape.dim[0].size = 0
        tensor.tensor_shape.dim.add().size = 1 << 62
    elif kind == "65 dimensions":
        for _ in range(64):
            tensor.tensor_shape.dim.add().size = 1
    return tensor


@pytest.mark.parametrize(
    "kind",
    [
        "content too short",
        "negative size",
        "unknown rank",
        "resource",
        "no type",
        "a shape of terabytes",
        "too many values",
        "no values",
        "nothing of a size beyond all",
        "65 dimensions",
    ],
)
def test_a_broken_tensor_is_named(server: Running, kind: str) -> None:
    request = predict_request({})
    request.inputs["x"].CopyFrom(broken_tensor(kind))

    code, text = refused(server.prediction.Predict, request)

    assert code == "INVALID_ARGUMENT"
    assert "'x'" in text


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_an_error_that_quotes_much_keeps_its_code(server: Running, letter: str) -> None:
    code, text = refused(server.prediction.Predict, predict_request({"x": [1.0]}, 9000 * letter))

    assert code == "FAILED_PRECONDITION"
    assert letter in text
    assert len(text.encode()) < 2100


def test_a_tensor_may_leave_out_what_repeats_its_last_value(server: Running) -> None:
    request = predict_request({})
    tensor = request.inputs["x"]
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.tensor_shape.dim.add().size = 4
    tensor.float_val.extend([1.0, 3.0])

    response = server.prediction.Predict(request, timeout=20)

    assert list(response.outputs["y"].float_val) == [2.0, 6.0, 6.0, 6.0]


@pytest.mark.parametrize(
    "method",
    [
        "PredictionService/Predict",
        "PredictionService/Classify",
        "PredictionService/Regress",
        "PredictionService/MultiInference",
        "PredictionService/GetModelMetadata",
        "ModelService/GetModelStatus",
        "ModelService/HandleReloadConfigRequest",
    ],
)
def test_a_malformed_message_is_named(server: Running, method: str) -> None:
    call = server.channel.unary_unary(f"/tensorflow.serving.{method}")

    code, text = refused(call, b"\x0a\xff\xff\xff")

    assert code == "INVALID_ARGUMENT"
    assert method.split("/")[1] in text
    assert "tensorflow.serving." in text


def test_a_method_that_is_not_there_is_unimplemented(server: Running) -> None:
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Guess")

    assert refused(call, b"")[0] == "UNIMPLEMENTED"
