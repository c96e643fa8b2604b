"""Classify, Regress and MultiInference, driven with the stubs of tensorflow-serving-api."""

from __future__ import annotations

import numpy as np
import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

from serving.server.errors import Code, ServingError
from serving.server.examples import classifications
from serving.server.signature import CLASSIFY_METHOD, REGRESS_METHOD
from tests.serving.server.grpc_api.refusals import refused
from tests.serving.servers import Running
from tests.serving.tiny_models import example


def classify_request(signature: str, *values: float) -> classification_pb2.ClassificationRequest:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(example(value) for value in values)
    return request


def test_classify_pairs_labels_with_scores(server: Running) -> None:
    response = server.prediction.Classify(classify_request("classify", 0.25, 1.0), timeout=20)

    found = [
        [(each.label, each.score) for each in row.classes]
        for row in response.result.classifications
    ]
    assert found == [[("no", 0.75), ("yes", 0.25)], [("no", 0.0), ("yes", 1.0)]]
    assert response.model_spec.signature_name == "classify"


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_scores_of_another_type_are_refused(dtype: type) -> None:
    with pytest.raises(ServingError, match="DT_FLOAT") as caught:
        classifications({"scores": np.zeros((1, 2), dtype)}, 1)

    assert caught.value.code is Code.INVALID_ARGUMENT


def test_labels_that_are_no_text_are_refused() -> None:
    with pytest.raises(ServingError, match="classes: labels of UTF-8") as caught:
        classifications({"classes": np.array([[b"yes", b"\xff"]], np.object_)}, 1)

    assert caught.value.code is Code.INVALID_ARGUMENT


def test_classify_without_labels_gives_scores_alone(server: Running) -> None:
    response = server.prediction.Classify(classify_request("classify_scores", 0.25), timeout=20)

    (only,) = response.result.classifications[0].classes
    assert (only.label, only.score) == ("", 0.25)


def regress_request(signature: str, *values: float) -> regression_pb2.RegressionRequest:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(example(value) for value in values)
    return request


def test_regress_gives_a_value_for_each_example(server: Running) -> None:
    response = server.prediction.Regress(regress_request("regress", 0.25, 3.0), timeout=20)

    assert [each.value for each in response.result.regressions] == [0.5, 6.0]


def test_the_context_of_a_list_is_part_of_every_example(server: Running) -> None:
    request = regress_request("regress")
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(example(4.0))
    listed.examples.add()
    listed.examples.add().CopyFrom(example(1.0))

    response = server.prediction.Regress(request, timeout=20)

    assert [each.value for each in response.result.regressions] == [8.0, 2.0]


@pytest.mark.parametrize(
    ("signature", "values", "words"),
    [
        ("none", (1.0,), ["No signature was found", "none"]),
        ("regress", (1.0,), ["Expected classification signature", "regress"]),
        ("", (1.0,), ["Expected classification signature", "predict"]),
        ("classify", (), ["Input is empty"]),
    ],
)
def test_classify_refuses(
    server: Running, signature: str, values: tuple[float, ...], words: list[str]
) -> None:
    code, text = refused(server.prediction.Classify, classify_request(signature, *values))

    assert code == "INVALID_ARGUMENT"
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("signature", "values", "words"),
    [
        ("classify", (1.0,), ["Expected regression signature", "classify"]),
        ("regress_wide", (1.0,), ["[batch_size, 1]", "[1, 2]"]),
        ("regress", (), ["Input is empty"]),
    ],
)
def test_regress_refuses(
    server: Running, signature: str, values: tuple[float, ...], words: list[str]
) -> None:
    code, text = refused(server.prediction.Regress, regress_request(signature, *values))

    assert code == "INVALID_ARGUMENT"
    assert all(word in text for word in words), text


def test_an_example_without_the_feature_is_the_models_refusal(server: Running) -> None:
    request = regress_request("regress")
    request.input.example_list.examples.add()

    code, text = refused(server.prediction.Regress, request)

    assert code == "INVALID_ARGUMENT"
    assert "x" in text


def multi_request(*tasks: tuple[str, str, str]) -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add()
        task.model_spec.name = model
        task.model_spec.signature_name = signature
        task.method_name = method
    request.input.example_list.examples.append(example(0.25))
    return request


def test_multi_inference_answers_the_tasks_in_their_order(server: Running) -> None:
    request = multi_request(
        ("tiny", "regress", REGRESS_METHOD), ("tiny", "classify", CLASSIFY_METHOD)
    )

    first, second = server.prediction.MultiInference(request, timeout=20).results

    assert first.regression_result.regressions[0].value == 0.5
    assert first.model_spec.signature_name == "regress"
    assert second.classification_result.classifications[0].classes[1].score == 0.25


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ([], "INVALID_ARGUMENT", ["tasks"]),
        ([("", "regress", REGRESS_METHOD)], "INVALID_ARGUMENT", ["empty model name"]),
        (
            [("tiny", "regress", REGRESS_METHOD), ("b", "regress", REGRESS_METHOD)],
            "INVALID_ARGUMENT",
            ["same model name"],
        ),
        (
            [("tiny", "regress", REGRESS_METHOD)] * 2,
            "INVALID_ARGUMENT",
            ["Duplicate", "regress"],
        ),
        ([("tiny", "none", REGRESS_METHOD)], "INVALID_ARGUMENT", ["none"]),
        ([("tiny", "regress", CLASSIFY_METHOD)], "INVALID_ARGUMENT", ["classification"]),
        ([("tiny", "regress", "guess")], "UNIMPLEMENTED", ["guess"]),
    ],
)
def test_multi_inference_refuses(
    server: Running, tasks: list[tuple[str, str, str]], code: str, words: list[str]
) -> None:
    found, text = refused(server.prediction.MultiInference, multi_request(*tasks))

    assert found == code
    assert all(word in text for word in words), text
