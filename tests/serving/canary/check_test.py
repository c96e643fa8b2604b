"""The canary as a whole: real servers outside the process, good models and bad ones."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from serving.canary.check import check_model
from serving.canary.config import CanaryConfig, ServerChoice
from serving.canary.report import CanaryReport, Check
from serving.canary.warmup import read_warmup
from serving.server.versions.warmup import REQUESTS
from tests.serving.canary.models import expected_score, make_examples, write_model

# Starts processes that import TensorFlow, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)

SIGNATURES = {"serving_default", "regress", "classify", "score", "rank"}
CONFIG = CanaryConfig(
    server=ServerChoice.EMBEDDED,
    examples=40,
    latency_p99_ms=20_000.0,
    latency_calls=5,
    batch_sizes=(1, 3),
    timeout_seconds=400.0,
)


def check(model: Path, folder: Path, config: CanaryConfig = CONFIG) -> CanaryReport:
    return check_model(model, make_examples(50), folder / "versions", folder / "work", config)


def found(report: CanaryReport, check: Check) -> dict[str, str]:
    return {one.signature: one.found for one in report.findings if one.check is check}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, CanaryReport]:
    folder = tmp_path_factory.mktemp("good")
    model = write_model(folder / "model")
    return model, folder, check(model, folder)


def test_a_good_model_passes_every_check(good: tuple[Path, Path, CanaryReport]) -> None:
    _, _, report = good
    assert report.passed, report.reasons()
    assert report.reasons() == []
    assert report.server == "embedded"
    assert report.examples == 40
    assert report.signatures.keys() == SIGNATURES
    scores = [expected_score(number % 7, number, list(range(number % 5))) for number in range(40)]
    for name, signature in report.signatures.items():
        assert signature.max_difference.keys() == {"gRPC", "REST"}, name
        assert max(signature.max_difference.values()) <= 1e-5
        assert signature.calls == 5
        assert signature.p99_ms is not None
        assert 0 < signature.p99_ms <= 20_000
    for name in SIGNATURES - {"rank"}:
        assert report.signatures[name].rows == 40
        assert report.signatures[name].lowest == pytest.approx(min(scores), abs=1e-5)
        assert report.signatures[name].highest == pytest.approx(max(scores), abs=1e-5)


def test_the_copy_has_warmup_requests_and_the_model_stays_as_it_was(
    good: tuple[Path, Path, CanaryReport],
) -> None:
    model, folder, report = good
    copy = folder / "versions" / "1"
    assert not (model / REQUESTS).exists()
    assert (copy / "assets.extra" / "lengthwise.json").read_text() == "{}"
    assert (copy / "saved_model.pb").read_bytes() == (model / "saved_model.pb").read_bytes()
    logs = list(read_warmup(copy))
    assert len(logs) == report.warmup_records == len(SIGNATURES) * 2
    rows: dict[str, list[int]] = {name: [] for name in SIGNATURES}
    for log in logs:
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        name = request.model_spec.signature_name
        if name in ("classify", "regress"):
            assert kind == f"{name}_log"
            rows[name].append(len(request.input.example_list.examples))
        else:
            assert kind == "predict_log"
            key = "examples" if name == "serving_default" else "item_id"
            rows[name].append(request.inputs[key].tensor_shape.dim[-1].size)
    assert all(sizes == [1, 3] for sizes in rows.values()), rows


def test_every_fault_of_a_model_is_named_with_its_signature(tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "model",
        regress="constant",
        classify="nan",
        score="outside",
        rank="slow",
    )
    config = CanaryConfig(
        server=ServerChoice.EMBEDDED,
        examples=40,
        latency_p99_ms=1.0,
        latency_calls=3,
        batch_sizes=(1, 2),
        timeout_seconds=400.0,
    )

    report = check(model, tmp_path, config)

    assert not report.passed
    assert report.not_run == []
    assert "are 0.25" in found(report, Check.CONSTANT)["regress"]
    assert "not finite, the first is nan" in found(report, Check.FINITE)["classify"]
    assert "scores lie outside" in found(report, Check.RANGE)["score"]
    assert found(report, Check.AGREEMENT).keys() == {"regress", "score"}
    assert "one user with 2 candidates" in found(report, Check.LATENCY)["rank"]
    assert found(report, Check.ANSWERS) == {}
    assert any(
        line.startswith("canary latency, signature 'rank': p99 of 3 warm calls")
        and line.endswith("accepted: canary.latency_p99_ms of at most 1")
        for line in report.reasons()
    )


def test_a_signature_that_lies_and_one_that_calls_python_are_refused(tmp_path: Path) -> None:
    report = check(write_model(tmp_path / "model", rank="lie", score="python"), tmp_path)

    assert found(report, Check.OPS) == {"": "the graph has the operations PyFunc"}
    assert "PyFunc" in found(report, Check.SERVER)[""] or found(report, Check.SERVER)[""]
    assert found(report, Check.LOAD).keys() == {"score"}
    assert "differ from 'serving_default'" in found(report, Check.AGREEMENT)["rank"]
    assert set(report.not_run) == {Check.ANSWERS, Check.LATENCY, Check.WARMUP}


def test_a_model_without_its_variables_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    shutil.rmtree(model / "variables")

    report = check(model, tmp_path)

    assert "" in found(report, Check.LOAD)
    assert "the embedded server cannot load it" in found(report, Check.SERVER)[""]
    assert Check.FINITE in report.not_run


@pytest.mark.parametrize("content", [None, b"", b"\xff not a model"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    model = tmp_path / "model"
    model.mkdir()
    if content is not None:
        (model / "saved_model.pb").write_bytes(content)

    report = check(model, tmp_path)

    assert not report.passed
    assert [one.check for one in report.findings] in ([Check.LOAD], [Check.REQUESTS])


def test_one_example_is_not_enough(tmp_path: Path, good: tuple[Path, Path, CanaryReport]) -> None:
    examples = make_examples(1) * 5

    report = check_model(good[0], examples, tmp_path / "versions", tmp_path / "work", CONFIG)

    assert found(report, Check.REQUESTS) == {"": "1 different examples"}


def _program(folder: Path, script: str) -> None:
    path = folder / "tensorflow_model_server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: tuple[Path, Path, CanaryReport]
) -> None:
    _program(tmp_path, 'echo "$$" > pid; echo loading; exec sleep 600')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = CanaryConfig(examples=10, batch_sizes=(1,), timeout_seconds=2.0)

    report = check(good[0], tmp_path, config)

    assert report.server == "tensorflow_serving"
    reason = found(report, Check.SERVER)[""]
    assert "did not make the model available within 2 s" in reason
    assert reason.endswith("it printed: loading")
    pid = int((tmp_path / "work" / "server" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_ends_is_reported_with_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: tuple[Path, Path, CanaryReport]
) -> None:
    _program(tmp_path, 'echo "$@"; exit 7')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = CanaryConfig(examples=10, batch_sizes=(1,), timeout_seconds=5.0)

    reason = found(check(good[0], tmp_path, config), Check.SERVER)[""]

    assert reason.startswith("the tensorflow_serving server ended with code 7: --port=")
    assert f"--model_name=canary --model_base_path={tmp_path}/versions" in reason
    assert "--monitoring_config_file=" in reason


def test_a_server_that_is_not_here_is_not_replaced(
    tmp_path: Path, good: tuple[Path, Path, CanaryReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    config = CanaryConfig(
        server=ServerChoice.TENSORFLOW_SERVING, examples=10, batch_sizes=(1,), timeout_seconds=1.0
    )

    reason = found(check(good[0], tmp_path, config), Check.SERVER)[""]

    assert "there is no tensorflow_model_server on PATH" in reason
