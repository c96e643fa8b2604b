"""The commands score, loadtest and deploy, against a small server in this process."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from serving.protocol.tf_examples import serialize
from tests.serving.deploy.write_test import write_version
from tests.serving.fake_model import GRPC, framed, respond
from tests.serving.fake_servers import grpc_server, http_server

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [serialize({"x": number / 8}) for number in range(1, 8)]


@pytest.fixture(scope="module", params=["grpc", "rest"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    server = grpc_server(GRPC) if request.param == "grpc" else http_server(respond)
    with server as where:
        yield where


@pytest.fixture
def records(tmp_path: Path) -> str:
    path = tmp_path / "rows.tfrecord"
    path.write_bytes(framed(EXAMPLES))
    return str(path)


def lengthwise(*arguments: str) -> int:
    return main(list(arguments))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_examples_are_scored_in_order(
    address: str, records: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = lengthwise(
        "score",
        records,
        "--host",
        address,
        "--model",
        "m",
        "--batch-size",
        "2",
        "--concurrency",
        "3",
    )

    out, err = capsys.readouterr()
    assert code == 0
    rows = lines(out)
    assert [row["row"] for row in rows] == list(range(7))
    expected = np.float32([len(one) for one in EXAMPLES]) / 7
    np.testing.assert_array_equal(np.float32([row["score"] for row in rows]), expected)
    assert "7 rows scored with serving_default" in err


def test_rows_of_tensors_are_scored_into_a_csv_file(address: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n')

    code = lengthwise(
        "score",
        str(rows),
        "--host",
        address,
        "--model",
        "m",
        "--signature",
        "sum",
        "--output",
        str(tmp_path / "out.csv"),
    )

    assert code == 0
    with (tmp_path / "out.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [
            {"row": "0", "sum": "3", "text": "3"},
            {"row": "1", "sum": "7", "text": "7"},
        ]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.csv", "rows.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--model", "other"], 1, "NOT_FOUND: Could not find any versions"),
        (["--signature", "nope"], 2, "signature 'nope': the model 'm' has"),
        (["--signature", "sum"], 2, "one input of text"),
        (["--batch-size", "0"], 2, "batch_size 0"),
        (["--deadline", "0"], 2, "deadline_seconds 0"),
        (["--cert-file", "c.pem"], 2, "give both or neither"),
        (["--token-file", "/none"], 2, "/none: cannot be read"),
        (["--token-file", sys.executable], 2, f"{sys.executable}: a token of ASCII text"),
        (["--model", "a/b"], 2, "model 'a/b'"),
    ],
)
def test_what_cannot_be_scored_is_told(
    address: str,
    records: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    found = lengthwise("score", records, "--host", address, "--model", "m", *arguments)

    out, err = capsys.readouterr()
    assert (found, out) == (code, "")
    assert text in err


def test_a_file_that_cannot_be_read_is_told(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").write_text("not records at all, and long enough to be looked at")
    (tmp_path / "empty").touch()

    for name, code, text in (
        ("bad", 2, "record 1"),
        ("empty", 2, "no rows"),
        ("none", 1, "No such file"),
    ):
        found = lengthwise("score", str(tmp_path / name), "--host", address, "--model", "m")
        assert found == code
        assert text in capsys.readouterr().err


def test_a_score_that_fails_leaves_no_file(address: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"a": 1, "b": 2}\n{"a": 3}\n')

    code = lengthwise(
        "score",
        str(rows),
        "--host",
        address,
        "--model",
        "m",
        "--signature",
        "sum",
        "--batch-size",
        "1",
        "--output",
        str(tmp_path / "out.csv"),
    )

    assert code == 2
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_load_is_sent_and_reported(
    address: str, records: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = lengthwise(
        "loadtest",
        records,
        "--host",
        address,
        "--model",
        "m",
        "--rate",
        "50",
        "--duration",
        "0.6",
        "--warmup",
        "0.1",
        "--arrivals",
        "even",
        "--batch-size",
        "2",
        "--json",
        str(tmp_path / "load.json"),
        "--picture",
        str(tmp_path / "load.png"),
    )

    out = capsys.readouterr().out
    assert code == 0
    figures = json.loads((tmp_path / "load.json").read_text())
    assert figures["outcomes"] == {"OK": 30}
    assert figures["errors"] == {}
    assert figures["different_requests"] == 3
    assert figures["version"] == 3
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99.9"]
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    assert "30 requests due at 50/s" in out
    assert " ms " in out


def test_a_load_of_nothing_but_failures_fails(
    records: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        return respond(method, path, headers, body) if method == "GET" else (429, b"{}")

    with http_server(refuse) as where:
        code = lengthwise(
            "loadtest",
            records,
            "--host",
            where,
            "--model",
            "m",
            "--rate",
            "50",
            "--duration",
            "0.2",
            "--warmup",
            "0",
            "--arrivals",
            "even",
        )

    out = capsys.readouterr().out
    assert code == 1
    assert "RESOURCE_EXHAUSTED" in out
    assert "with the failed" in out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--rate", "0"], 2, "rate 0"),
        (["--rate", "10", "--batch-size", "8"], 2, "7 rows do not make one request of 8"),
        (["--rate", "10", "--batch-size", "0"], 2, "--batch-size 0"),
        (["--rate", "10", "--signature", "sum"], 2, "one input of text"),
        (["--rate", "10", "--duration", "0.1", "--model", "other"], 1, "NOT_FOUND"),
    ],
)
def test_a_load_that_cannot_be_sent_is_told(
    address: str,
    records: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    found = lengthwise("loadtest", records, "--host", address, "--model", "m", *arguments)

    assert found == code
    assert text in capsys.readouterr().err


def test_a_deployment_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_version(tmp_path / "models", "5", warmup=False)

    code = lengthwise(
        "deploy",
        str(tmp_path / "models"),
        "--output",
        str(tmp_path / "out"),
        "--name",
        "feed",
        "--set",
        "resources.cpus=6",
        "--set",
        "labels.stable=5",
    )

    out, err = capsys.readouterr()
    assert code == 0
    assert "version 5: rank, serving_default" in out
    assert "nothing was started" in out
    assert "warning: version 5 has no" in err
    record = json.loads((tmp_path / "out" / "deployment.json").read_text())
    assert (record["name"], record["resources"]["cpus"], record["labels"]) == (
        "feed",
        6,
        {"stable": 5},
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "resources.cpu=1"], "did you mean 'cpus'"),
        (["--name", "A"], "name 'A'"),
        (["--set", "labels.stable=9"], "labels.stable 9"),
    ],
)
def test_a_deployment_that_cannot_be_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    write_version(tmp_path / "models", "5")

    code = lengthwise(
        "deploy", str(tmp_path / "models"), "--output", str(tmp_path / "out"), *arguments
    )

    assert code == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["score", "loadtest", "deploy"])
def test_help_and_a_refusal_need_no_framework(command: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline import cli, serving_commands;"
        f"import pipeline.commands.{command};"
        "print(sorted({'tensorflow', 'tfx', 'pyarrow', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
