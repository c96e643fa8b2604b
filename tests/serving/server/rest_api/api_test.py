"""The REST API over plain HTTP."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.server.config import ModelSource, VersionPolicy
from tests.serving.servers import Running, running
from tests.serving.tiny_models import copy_version, write_version

PREDICT = "/v1/models/tiny:predict"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    first = write_version(folder, 1, factor=2.0)
    copy_version(first, folder, 2)
    return folder


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    source = ModelSource(
        name="tiny",
        path=str(versions),
        policy=VersionPolicy(all=True),
        labels={"stable": 1, "gone": 9},
    )
    with running([source], versions={"allow_labels_for_unavailable": True}) as found:
        yield found


def b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


MIXED_ROWS = [
    {"ids": 1, "values": [0.5, 1.5], "names": "a"},
    {"ids": 2, "values": [4, 0.25], "names": b64(b"b")},
]
MIXED_COLUMNS = {
    "ids": [1, 2],
    "values": [[0.5, 1.5], [4, 0.25]],
    "names": ["a", b64(b"b")],
}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 2.5]}, {"predictions": [2.0, 5.0]}),
        ({"instances": [{"x": 1}, {"x": 2.5}]}, {"predictions": [2.0, 5.0]}),
        ({"inputs": [1.0, 2.5]}, {"outputs": [2.0, 5.0]}),
        ({"inputs": {"x": [1.0, 2.5]}}, {"outputs": [2.0, 5.0]}),
        ({"signature_name": "shift", "inputs": [1]}, {"outputs": [1001.0]}),
        ({"signature_name": "total", "inputs": [1, 2]}, {"outputs": 3.0}),
        ({"signature_name": "lone", "inputs": [1, 2]}, {"outputs": {"half": 6.0, "text": "6.0"}}),
    ],
)
def test_predict_answers_in_the_format_of_the_request(
    server: Running, body: Any, answer: Any
) -> None:
    assert server.rest("POST", PREDICT, body) == (200, answer)


def test_predict_in_rows_with_several_inputs_and_outputs(server: Running) -> None:
    body = {"signature_name": "mixed", "instances": MIXED_ROWS}

    status, answer = server.rest("POST", PREDICT, body)

    assert status == 200
    assert answer == {
        "predictions": [
            {"ids": 1, "name": "a", "raw_bytes": b64(b"a"), "total": 4.0},
            {"ids": 2, "name": "b", "raw_bytes": b64(b"b"), "total": 8.25},
        ]
    }


def test_predict_in_columns_with_several_inputs_and_outputs(server: Running) -> None:
    body = {"signature_name": "mixed", "inputs": MIXED_COLUMNS}

    status, answer = server.rest("POST", PREDICT, body)

    assert status == 200
    assert answer == {
        "outputs": {
            "ids": [1, 2],
            "name": ["a", "b"],
            "raw_bytes": [b64(b"a"), b64(b"b")],
            "total": [4.0, 8.25],
        }
    }


def test_base64_may_have_line_breaks_and_no_padding(server: Running) -> None:
    name = b"n" * 100
    wrapped = base64.encodebytes(name).decode().rstrip("=\n")
    assert "\n" in wrapped
    body = {"signature_name": "mixed", "inputs": {**MIXED_COLUMNS, "names": [{"b64": wrapped}, ""]}}

    status, answer = server.rest("POST", PREDICT, body)

    assert (status, answer["outputs"]["name"]) == (200, [name.decode(), ""])


def test_numbers_are_written_short_and_with_a_point(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.rest, timeout=30)
    connection.request("POST", PREDICT, json.dumps({"instances": [0.1, 1, 1e20]}).encode())
    text = connection.getresponse().read().decode()
    connection.close()

    assert text == '{"predictions":[0.2,2.0,2e+20]}'


def test_nan_and_infinity_are_read_and_written(server: Running) -> None:
    status, answer = server.rest("POST", PREDICT, b'{"instances": [NaN, Infinity, -Infinity, 0.1]}')

    assert status == 200
    assert str(answer["predictions"]) == "[nan, inf, -inf, 0.2]"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/tiny/versions/1:predict",
        "/v1/models/tiny/labels/stable:predict",
        "/V1/MODELS/tiny:PREDICT",
        "/v1/models/t%69ny:predict",
    ],
)
def test_predict_by_version_label_and_other_spellings(server: Running, path: str) -> None:
    assert server.rest("POST", path, {"instances": [1.0]}) == (200, {"predictions": [2.0]})


def test_a_body_may_be_compressed(server: Running) -> None:
    body = gzip.compress(json.dumps({"instances": [1.0]}).encode())

    answer = server.rest("POST", PREDICT, body, headers={"Content-Encoding": "gzip"})

    assert answer == (200, {"predictions": [2.0]})


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/other:predict", 404, ["Servable not found", "Latest(other)"]),
        ("/v1/models/tiny/versions/9:predict", 404, ["Specific(tiny, 9)"]),
        ("/v1/models/tiny/versions/99999999999999999999:predict", 400, ["numeric"]),
        ("/v1/models/tiny/labels/new:predict", 400, ["label", "new"]),
        ("/v1/models/tiny/labels/gone:predict", 404, ["Specific(tiny, 9)"]),
        ("/v1/models/tiny:guess", 400, ["Malformed request", "guess"]),
        ("/v1/models/tiny", 400, ["Malformed request", "POST"]),
        ("/v1/other", 400, ["Malformed request"]),
        ("/v2/models/tiny", 404, ["/v2/models/tiny"]),
    ],
)
def test_paths_that_are_not_there(
    server: Running, path: str, status: int, words: list[str]
) -> None:
    found, answer = server.rest("POST", path, {"instances": [1.0]})

    assert found == status
    assert list(answer) == ["error"]
    assert all(word in answer["error"] for word in words), answer


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["empty"]),
        (b'{"instances": [1.0', ["JSON Parse error", "offset"]),
        (b'{"instances": [NaN', ["JSON Parse error"]),
        (b"\xff\xfe", ["JSON Parse error"]),
        (b"[1.0]", ["not object", "Array"]),
        ({}, ["'inputs' or 'instances'"]),
        ({"instances": [1.0], "inputs": [1.0]}, ["only one of"]),
        ({"instances": 1.0}, ["'instances'", "list"]),
        ({"instances": []}, ["No values", "'instances'"]),
        ({"signature_name": 1, "instances": [1.0]}, ["'signature_name'", "Number"]),
        ({"signature_name": "none", "instances": [1.0]}, ['"none"', "not found"]),
        ({"instances": [{"z": 1.0}]}, ["element: 0", "x", "z"]),
        ({"instances": [{"x": 1.0}, {"x": 1.0, "y": 1}]}, ["element: 1", "x,y"]),
        ({"instances": [{"x": 1.0}, 2.0]}, ["item 1", "object"]),
        ({"instances": [1.0, {"x": 2.0}]}, ["item 1", "object"]),
        ({"instances": ["a"]}, ["'x'", "'a'", "String", "float32"]),
        ({"instances": [None]}, ["'x'", "Null", "float32"]),
        ({"instances": [True]}, ["'x'", "Bool", "float32"]),
        ({"instances": [[1.0], [1.0, 2.0]]}, ["'x'", "size: 2", "expected size: 1"]),
        ({"instances": [1.0, [1.0]]}, ["'x'", "unexpected level"]),
        ({"instances": [[1.0], 1.0]}, ["'x'", "incorrect level"]),
        ({"instances": [[1.0]]}, ["'x'", "[?]", "[1, 1]"]),
        ({"instances": [16777217]}, ["16777217", "float32", "loss of precision"]),
        ({"instances": [1e39]}, ["1e+39", "loss of precision"]),
        ({"inputs": {"z": [1.0]}}, ["Missing named input: x"]),
        ({"inputs": {"x": [1.0], "z": [1.0]}}, ["z"]),
        ({"signature_name": "mixed", "instances": [1.0]}, ["plain list", "multiple"]),
        ({"signature_name": "mixed", "inputs": [1.0]}, ["plain value/list", "multiple"]),
        (
            {"signature_name": "mixed", "inputs": {**MIXED_COLUMNS, "ids": [1.5, 2]}},
            ["'ids'", "1.5", "int64"],
        ),
        (
            {"signature_name": "mixed", "inputs": {**MIXED_COLUMNS, "ids": [2**63, 1]}},
            ["'ids'", "9223372036854775808", "int64"],
        ),
        (
            {"signature_name": "mixed", "inputs": {**MIXED_COLUMNS, "names": ["a", 1]}},
            ["'names'", "1", "string"],
        ),
        (
            {"signature_name": "mixed", "inputs": {**MIXED_COLUMNS, "names": ["a", {"b64": "?"}]}},
            ["'names'", "base64"],
        ),
        ({"signature_name": "positive", "instances": [-1.0]}, ["x: negative"]),
        (b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}", ["deep"]),
        (b'{"instances": ' + b"[" * 100_000, ["JSON Parse error"]),
    ],
)
def test_bodies_that_do_not_fit(server: Running, body: Any, words: list[str]) -> None:
    status, answer = server.rest("POST", PREDICT, body)

    assert status == 400
    assert list(answer) == ["error"]
    assert all(word in answer["error"] for word in words), answer


def test_text_that_is_no_text_is_refused_by_name(server: Running) -> None:
    body = {
        "signature_name": "mixed",
        "inputs": {**MIXED_COLUMNS, "names": [b64(b"\xff"), "b"]},
    }

    status, answer = server.rest("POST", PREDICT, body)

    assert status == 400
    assert "name" in answer["error"]
    assert "_bytes" in answer["error"]


def test_complex_numbers_are_refused_by_name(server: Running) -> None:
    status, answer = server.rest("POST", PREDICT, {"signature_name": "turned", "inputs": [1.0]})

    assert status == 400
    assert "Tensor name: y" in answer["error"]
    assert "complex64" in answer["error"]


def test_outputs_without_rows_cannot_be_given_in_rows(server: Running) -> None:
    body = {"signature_name": "total", "instances": [1.0]}

    status, answer = server.rest("POST", PREDICT, body)

    assert status == 400
    assert "sum" in answer["error"]


def test_classify_and_regress(server: Running) -> None:
    classify = {"signature_name": "classify", "examples": [{"x": 0.25}, {"x": [1.0]}]}
    regress = {"signature_name": "regress", "examples": [{"x": 0.25}, {"x": 3.0}]}

    assert server.rest("POST", "/v1/models/tiny:classify", classify) == (
        200,
        {"results": [[["no", 0.75], ["yes", 0.25]], [["no", 0.0], ["yes", 1.0]]]},
    )
    assert server.rest("POST", "/v1/models/tiny:regress", regress) == (
        200,
        {"results": [0.5, 6.0]},
    )


def test_the_context_is_part_of_every_example(server: Running) -> None:
    body = {"signature_name": "regress", "context": {"x": 4.0}, "examples": [{}, {"x": 1.0}]}

    answer = server.rest("POST", "/v1/models/tiny:regress", body)

    assert answer == (200, {"results": [8.0, 2.0]})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["'examples'", "not found"]),
        ({"examples": 1}, ["'examples'", "list"]),
        ({"examples": []}, ["'examples'", "empty"]),
        ({"examples": [1]}, ["Example must be JSON object", "Number"]),
        ({"examples": [{"x": None}]}, ["x", "Null"]),
        ({"examples": [{"x": [[1.0]]}]}, ["x", "Array"]),
        ({"examples": [{"x": ["a", 1.0]}]}, ["x", "one type"]),
        ({"examples": [{"x": 1e39}]}, ["x", "loss of precision"]),
        ({"examples": [{"x": 2**63}]}, ["x", "int64"]),
        ({"examples": [{"x": 1.0}]}, ["Expected regression signature"]),
        ({"examples": [{"x": 1.0}], "signature_name": "none"}, ["none"]),
        ({"examples": [{}], "signature_name": "regress"}, ["x"]),
    ],
)
def test_regress_bodies_that_do_not_fit(server: Running, body: Any, words: list[str]) -> None:
    status, answer = server.rest("POST", "/v1/models/tiny:regress", body)

    assert status == 400
    assert all(word in answer["error"] for word in words), answer


def test_status_lists_the_versions_newest_first(server: Running) -> None:
    status, answer = server.rest("GET", "/v1/models/tiny")

    assert status == 200
    assert answer == {
        "model_version_status": [
            {
                "version": version,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for version in ("2", "1")
        ]
    }


@pytest.mark.parametrize("path", ["/versions/1", "/labels/stable"])
def test_status_of_one_version(server: Running, path: str) -> None:
    status, answer = server.rest("GET", f"/v1/models/tiny{path}")

    assert status == 200
    assert [each["version"] for each in answer["model_version_status"]] == ["1"]


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/models/other", 404, "other"),
        ("/v1/models/tiny/versions/9", 404, "version 9"),
        ("/v1/models", 400, "Missing model name"),
        ("/v1/models/other/metadata", 404, "other"),
        ("/v1/models/tiny/labels/new", 400, "new"),
    ],
)
def test_status_and_metadata_refuse(server: Running, path: str, status: int, word: str) -> None:
    found, answer = server.rest("GET", path)

    assert found == status
    assert word in answer["error"]


def test_metadata_holds_the_signatures(server: Running) -> None:
    status, answer = server.rest("GET", "/v1/models/tiny/versions/1/metadata")

    assert status == 200
    assert answer["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
    mixed = answer["metadata"]["signature_def"]["signature_def"]["mixed"]
    assert mixed["method_name"] == "tensorflow/serving/predict"
    assert mixed["inputs"]["ids"]["dtype"] == "DT_INT64"
    assert [each["size"] for each in mixed["inputs"]["values"]["tensor_shape"]["dim"]] == [
        "-1",
        "-1",
    ]


def test_other_methods_are_malformed(server: Running) -> None:
    for method in ("PUT", "DELETE"):
        status, answer = server.rest(method, PREDICT, {"instances": [1.0]})
        assert (status, "Malformed request" in answer["error"]) == (400, True)


def test_metrics_have_the_names_of_tensorflow_serving(server: Running) -> None:
    server.rest("POST", PREDICT, {"instances": [1.0]})
    server.rest("POST", "/v1/models/made-up:predict", {"instances": [1.0]})

    status, page = server.rest("GET", "/monitoring/prometheus/metrics")

    assert status == 200
    assert ':tensorflow:serving:request_count{model_name="tiny",status="OK"}' in page
    assert ':tensorflow:serving:request_count{model_name="unknown",status="NOT_FOUND"}' in page
    assert (
        ':tensorflow:serving:request_latency_bucket{model_name="tiny",API="Predict",'
        'entrypoint="REST",le="+Inf"}' in page
    )
    assert ":tensorflow:serving:runtime_latency_count{" in page
    assert ':lengthwise:serving:version_state{model_name="tiny",version="2"} 30' in page
    assert "made-up" not in page


def test_healthz_says_serving(server: Running) -> None:
    assert server.rest("GET", "/healthz") == (200, {"status": "SERVING"})
