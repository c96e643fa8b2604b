"""What the canary's fresh process is told and answers, for tensors of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serving.canary.process import ReferenceProcess
from serving.canary.requests import Arrays, CanaryRequest
from tests.serving.tiny_models import write_version


def request(signature: str, **inputs: np.ndarray) -> CanaryRequest:
    return CanaryRequest(signature=signature, method="", inputs=inputs, rows=())


def test_every_type_goes_in_and_comes_back(tmp_path: Path) -> None:
    model = write_version(tmp_path, 1, factor=2.0)
    rows: Arrays = {
        "ids": np.array([1, 2**40]),
        "values": np.float32([[0.5, np.nan], [np.inf, 0.25]]),
        "names": np.array([b"", b"\x00\xff"], dtype=object),
    }
    nothing: Arrays = {
        "ids": np.zeros(0, np.int64),
        "values": np.zeros((0, 2), np.float32),
        "names": np.zeros(0, dtype=object),
    }
    flags = np.array([[True, False]])
    process = ReferenceProcess(
        model,
        [
            request("mixed", **rows),
            request("mixed", **nothing),
            request("flags", flags=flags),
            request("missing", flags=flags),
            request("positive", x=np.float32([-1])),
        ],
        tmp_path,
    )

    found = process.result(240)

    assert (found.load_error, found.unknown_ops, found.python_ops) == (None, [], [])
    mixed, empty, types, missing, refused = found.answers
    assert not isinstance(mixed, str)
    assert mixed["ids"].tolist() == [1, 2**40]
    assert mixed["name"].tolist() == [b"", b"\x00\xff"]
    np.testing.assert_array_equal(mixed["total"], np.float32([np.nan, np.inf]))
    assert not isinstance(empty, str)
    assert {name: array.shape for name, array in empty.items()} == dict.fromkeys(mixed, (0,))
    assert empty["name"].dtype == object
    assert not isinstance(types, str)
    for name, dtype in (("half", "f2"), ("double", "f8"), ("int32", "i4"), ("bool", "?")):
        assert types[name].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(types[name], flags)
    assert isinstance(missing, str)
    assert "missing" in missing
    assert isinstance(refused, str)
    assert "x: negative" in refused


def test_a_process_that_dies_leaves_the_reason(tmp_path: Path) -> None:
    process = ReferenceProcess(tmp_path / "no model", [], tmp_path)

    assert "no model" in str(process.result(240).load_error)
