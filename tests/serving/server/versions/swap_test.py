"""Versions that come, fail and go while real models serve."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_management_pb2, prediction_log_pb2

from serving.server.config import RuntimeConfig
from serving.server.errors import Code
from serving.server.metrics import ServingMetrics
from serving.server.versions.failures import LoadError
from serving.server.versions.model import Model
from serving.server.versions.sessions import Sessions
from serving.server.versions.warmup import MAX_RECORDS, REQUESTS, warm
from tests.serving.servers import Running, predict_request, running
from tests.serving.tiny_models import copy_version, example, write_version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Versions whose factor is their number."""
    folder = tmp_path_factory.mktemp("made")
    return {number: write_version(folder, number, factor=float(number)) for number in (2, 3)}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def reason(server: Running, number: int) -> dict[str, str]:
    _, answer = server.rest("GET", f"/v1/models/tiny/versions/{number}")
    return dict(answer["model_version_status"][0]["status"])


def state(server: Running, number: int) -> str:
    _, answer = server.rest("GET", f"/v1/models/tiny/versions/{number}")
    statuses = answer.get("model_version_status", [{"state": "none"}])
    return str(statuses[0]["state"])


def test_no_call_fails_while_versions_are_swapped(made: dict[int, Path], tmp_path: Path) -> None:
    copy_version(made[2], tmp_path, 1)
    stop = threading.Event()
    wrong: list[str] = []
    seen: set[int] = set()

    def call(server: Running) -> int:
        count = 0
        while not stop.is_set():
            response = server.prediction.Predict(predict_request({"x": [1.0, 2.0]}), timeout=30)
            version = response.model_spec.version.value
            factor = 2.0 if version % 2 else 3.0
            if list(response.outputs["y"].float_val) != [factor, 2 * factor]:
                wrong.append(f"version {version}: {response.outputs['y'].float_val}")
            seen.add(version)
            count += 1
        return count

    with running(tmp_path) as server, futures.ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call, server) for _ in range(6)]
        try:
            for number in (2, 3, 4, 5):
                copy_version(made[2 + (number + 1) % 2], tmp_path, number)
                until(lambda wanted=number: wanted in seen)
        finally:
            stop.set()
        counts = [each.result(60) for each in callers]

    assert wrong == []
    assert min(counts) > 0
    assert seen == {1, 2, 3, 4, 5}


def test_a_broken_version_is_reported_and_the_good_one_serves(
    made: dict[int, Path], tmp_path: Path
) -> None:
    copy_version(made[2], tmp_path, 1)
    with running(tmp_path) as server:
        for number, break_it in ((2, truncate), (3, empty), (4, drop_variables)):
            broken = copy_version(made[3], tmp_path / "work", number)
            break_it(broken)
            broken.rename(tmp_path / str(number))
        metrics = server.server.metrics
        until(lambda: metrics.load_failures.value("tiny", "4") >= 1)

        assert server.predict({"x": [1.0]})["y"] == [2.0]
        # Not while it is tried again.
        until(lambda: reason(server, 4)["error_code"] != "OK")
        until(lambda: bool(reason(server, 4)["error_message"]))

        # What a pusher repairs is taken up without a restart.
        shutil.rmtree(tmp_path / "4")
        copy_version(made[3], tmp_path, 4)
        until(lambda: state(server, 4) == "AVAILABLE")
        assert server.predict({"x": [1.0]})["y"] == [3.0]


def truncate(version: Path) -> None:
    graph = version / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:100])


def empty(version: Path) -> None:
    (version / "saved_model.pb").unlink()


def drop_variables(version: Path) -> None:
    shutil.rmtree(version / "variables")


def test_a_call_under_way_ends_on_the_version_it_began_on(
    made: dict[int, Path], tmp_path: Path
) -> None:
    copy_version(made[2], tmp_path, 1)
    with running(tmp_path) as server, futures.ThreadPoolExecutor(1) as pool:
        old = server.server.manager.acquire("tiny")
        old.release()
        original, gate, entered = old.model.run, threading.Event(), threading.Event()

        def held(signature, inputs):  # type: ignore[no-untyped-def]
            entered.set()
            assert gate.wait(60)
            return original(signature, inputs)

        old.model.run = held  # type: ignore[method-assign]
        call = pool.submit(server.predict, {"x": [1.0]}, timeout=60)
        assert entered.wait(20)
        copy_version(made[3], tmp_path, 2)
        until(lambda: state(server, 1) == "UNLOADING")

        assert server.predict({"x": [1.0]})["y"] == [3.0]
        assert not call.done()
        gate.set()
        assert call.result(20)["y"] == [2.0]
        until(lambda: state(server, 1) == "END")


def filled(version: Path) -> Model:
    model = Model(version, Sessions(RuntimeConfig()))
    model.fill()
    return model


def test_a_freed_model_leaves_nothing_behind(made: dict[int, Path]) -> None:
    graphs = []
    for _ in range(3):
        model = filled(made[2])
        model.run(model.signatures["serving_default"], {"x": np.ones(1, np.float32)})
        graphs.append(weakref.ref(model._opened.session.graph))
        model.close()
        del model
    gc.collect()

    assert [graph() for graph in graphs] == [None] * 3


def test_models_are_added_over_grpc(made: dict[int, Path], tmp_path: Path) -> None:
    copy_version(made[2], tmp_path / "tiny", 1)
    copy_version(made[3], tmp_path / "other", 7)
    request = model_management_pb2.ReloadConfigRequest()
    models = request.config.model_config_list.config
    models.add(name="tiny", base_path=str(tmp_path / "tiny"))
    models.add(name="other", base_path=str(tmp_path / "other"), model_platform="tensorflow")
    with running(tmp_path / "tiny") as server:
        # Without a deadline, it waits as long as it takes.
        response = server.models.HandleReloadConfigRequest(request)

        assert response.status.error_code == 0
        assert server.predict({"x": [1.0]}, model="other")["y"] == [3.0]
        assert server.predict({"x": [1.0]})["y"] == [2.0]

        models[1].version_labels["canary"] = 7
        server.models.HandleReloadConfigRequest(request, timeout=60)
        assert server.predict({"x": [1.0]}, model="other", label="canary")["y"] == [3.0]

        models[1].version_labels["next"] = 8
        with pytest.raises(grpc.RpcError) as caught:
            server.models.HandleReloadConfigRequest(request, timeout=60)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "next" in caught.value.details()


def write_warmup(version: Path, logs: list[prediction_log_pb2.PredictionLog]) -> None:
    (version / REQUESTS).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / REQUESTS)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def warmup_logs() -> list[prediction_log_pb2.PredictionLog]:
    predict, regress, classify, multi = (prediction_log_pb2.PredictionLog() for _ in range(4))
    predict.predict_log.request.CopyFrom(predict_request({"x": [1.0, 2.0, 3.0]}))
    regress.regress_log.request.model_spec.signature_name = "regress"
    regress.regress_log.request.input.example_list.examples.append(example(1.0))
    classify.classify_log.request.model_spec.signature_name = "classify"
    classify.classify_log.request.input.example_list.examples.append(example(1.0))
    asked = multi.multi_inference_log.request
    asked.tasks.add().model_spec.signature_name = "regress"
    asked.input.example_list.examples.append(example(1.0))
    return [predict, regress, classify, multi]


def test_warm_up_requests_run_before_a_version_serves(
    made: dict[int, Path], tmp_path: Path
) -> None:
    version = copy_version(made[2], tmp_path, 1)
    write_warmup(version, warmup_logs())
    model = filled(version)
    calls: list[tuple[str, tuple[int, ...]]] = []
    original = model.run

    def run(signature, inputs):  # type: ignore[no-untyped-def]
        calls.append((signature.name, next(iter(inputs.values())).shape))
        return original(signature, inputs)

    model.run = run  # type: ignore[method-assign]
    warm(model, version, ServingMetrics(), make_up=False)
    model.close()

    assert calls == [
        ("serving_default", (3,)),
        ("regress", (1,)),
        ("classify", (1,)),
        ("regress", (1,)),
    ]


def test_the_metrics_of_a_warm_up_go_with_its_version(
    made: dict[int, Path], tmp_path: Path
) -> None:
    write_warmup(copy_version(made[2], tmp_path, 1), warmup_logs())
    with running(tmp_path) as server:
        assert f'model_path="{tmp_path}/1",status="OK"' in server.server.metrics.page()

        copy_version(made[3], tmp_path, 2)

        until(lambda: f'model_path="{tmp_path}/1"' not in server.server.metrics.page())
        assert server.predict({"x": [1.0]})["y"] == [3.0]


def test_made_up_requests_warm_every_signature(made: dict[int, Path]) -> None:
    model = filled(made[2])
    called: set[str] = set()
    original = model.run

    def run(signature, inputs):  # type: ignore[no-untyped-def]
        called.add(signature.name)
        return original(signature, inputs)

    model.run = run  # type: ignore[method-assign]
    warm(model, made[2], ServingMetrics(), make_up=True)
    model.close()

    assert called == {name for name in model.signatures if not name.startswith("__")}


def session_run() -> list[prediction_log_pb2.PredictionLog]:
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    return [log]


def bad_request() -> list[prediction_log_pb2.PredictionLog]:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request({"z": np.zeros(1, np.float32)}))
    return [log]


@pytest.mark.parametrize(
    ("logs", "code", "words"),
    [
        (bad_request, Code.INVALID_ARGUMENT, ["record 1", "{z}"]),
        (
            lambda: [prediction_log_pb2.PredictionLog()],
            Code.UNIMPLEMENTED,
            ["record 1", "log_type"],
        ),
        (session_run, Code.UNIMPLEMENTED, ["record 1", "session_run_log"]),
        (
            lambda: warmup_logs()[:1] * (MAX_RECORDS + 1),
            Code.INVALID_ARGUMENT,
            ["1000"],
        ),
        (None, Code.DATA_LOSS, ["TFRecord"]),
    ],
)
def test_warm_up_requests_that_fail_keep_a_version_from_serving(
    made: dict[int, Path],
    tmp_path: Path,
    logs: Callable[[], list[prediction_log_pb2.PredictionLog]] | None,
    code: Code,
    words: list[str],
) -> None:
    version = copy_version(made[2], tmp_path, 1)
    write_warmup(version, logs() if logs else [])
    if logs is None:
        (version / REQUESTS).write_bytes(b"no TFRecord file at all")
    model = filled(version)

    with pytest.raises(LoadError) as caught:
        warm(model, version, ServingMetrics(), make_up=False)

    model.close()
    assert caught.value.code is code
    assert all(word in str(caught.value) for word in words), caught.value
