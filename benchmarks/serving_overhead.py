"""What the server adds to the model's own time in a ``rank`` call: parsing, checking, encoding.

    python -m benchmarks.serving_overhead [--models sim din] [--candidates 500] [--length 1000]
        [--rounds 30] [--output overhead.json] [--graph FOLDER]

One user with a full history and 500 candidates, sent to an exported model with random weights. The
ways to send it take turns in one process: gRPC with ``tensor_content`` (as our client sends it),
gRPC with a value a field (as some clients do), and REST. What is added is the time from the bytes
of the request to those of the answer without the time in the model; for a whole call over gRPC on
this machine it has the client's side and the network in it. The calling thread's processor time is
given too: other work on the machine disturbs it less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
from tensorflow_serving.apis import predict_pb2

from benchmarks.rank import MODELS, load_graph, make_row
from benchmarks.serving_model import export
from models.files import write_json
from models.plan import CANDIDATE_COUNT, RankerPlan
from models.raw_inputs import raw_features
from serving.protocol import messages
from serving.protocol.tensor_codec import encode_tensor
from serving.server.admission import Admission
from serving.server.calls import Calls
from serving.server.config import ListenConfig, ModelSource, ServerConfig
from serving.server.inference import Inference
from serving.server.rest_api.requests import RestApi
from serving.server.server import Server
from serving.server.versions.version import ServedVersion

TARGET = 0.2
_NAME = "model"
_READY_SECONDS = 600
_WARM_CALLS = 3
_SECONDS = 600.0

Arrays = dict[str, np.ndarray]


@dataclass(kw_only=True)
class Times:
    """Seconds of each call: all of it, in the model, and the calling thread's processor time."""

    whole: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def overhead(self) -> dict[str, float]:
        """Returns medians in milliseconds, and the overhead as a share of the model's time."""
        model = statistics.median(self.model)
        added = statistics.median(
            whole - inner for whole, inner in zip(self.whole, self.model, strict=True)
        )
        return {
            "model_ms": model * 1e3,
            "added_ms": added * 1e3,
            "added_processor_ms": statistics.median(self.processor) * 1e3,
            "share": added / model,
        }


class ModelClock:
    """Measures the time in a served model, wherever the call came from."""

    def __init__(self, version: ServedVersion):
        self._run = version.model.run
        self.seconds = 0.0
        self.processor = 0.0
        version.model.run = self._timed  # type: ignore[method-assign, assignment]

    def _timed(self, *arguments: Any) -> Any:
        start, begun = time.perf_counter(), time.thread_time()
        outputs = self._run(*arguments)
        self.seconds = time.perf_counter() - start
        self.processor = time.thread_time() - begun
        return outputs


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["sim", "din"])
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--graph", type=Path)
    arguments = parser.parse_args(argv)
    figures = {}
    print("| model | way | model, ms | added, ms | of it processor time | share | target |")
    print("|---|---|" + "---:|" * 5)
    with tempfile.TemporaryDirectory() as folder:
        graph = load_graph(arguments.graph or Path(folder) / "graph", arguments.length)
        for name in arguments.models:
            versions = Path(folder) / name
            plan = export(MODELS[name], graph, versions / "1", arguments.length)
            request = make_request(plan, arguments.length, arguments.candidates)
            figures[name] = measure(versions, request, arguments.rounds)
            for way, found in figures[name].items():
                print(_table_row(name, way, found), flush=True)
    if arguments.output:
        kept = ("candidates", "length", "rounds")
        settings = {key: getattr(arguments, key) for key in kept}
        write_json(str(arguments.output), {"settings": settings, "models": figures})


def make_request(plan: RankerPlan, length: int, count: int) -> Arrays:
    """Returns the inputs of ``rank`` for one user."""
    random = np.random.default_rng(1)
    user = make_row(random, length)
    candidates = [make_row(random, 0) for _ in range(count)]
    request: Arrays = {
        "history_length": np.array([length]),
        CANDIDATE_COUNT: np.array([count]),
    }
    for feature in raw_features(plan):
        value = (
            [row[feature.name] for row in candidates]
            if feature.of_candidate
            else user[feature.name]
        )
        request[feature.name] = np.array([value], feature.dtype.as_numpy_dtype)
    return request


def measure(versions: Path, request: Arrays, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the figures of every way to send the request."""
    config = ServerConfig(listen=ListenConfig(grpc_port=0, rest_port=0))
    server = Server([ModelSource(name=_NAME, path=str(versions))], config)
    ports = server.start()
    try:
        if not server.manager.wait_until_ready(_READY_SECONDS):
            raise RuntimeError(f"the model in {versions} was not served")
        version = server.manager.acquire(_NAME)
        clock = ModelClock(version)
        with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
            ways = make_ways(server, channel, request)
            times = {way: Times() for way in ways}
            for number in range(_WARM_CALLS + rounds):
                for way, call in ways.items():
                    start, begun = time.perf_counter(), time.thread_time()
                    call()
                    whole, processor = time.perf_counter() - start, time.thread_time() - begun
                    if number >= _WARM_CALLS:
                        inside = way != "a call over gRPC"
                        times[way].whole.append(whole)
                        times[way].model.append(clock.seconds)
                        times[way].processor.append(processor - inside * clock.processor)
        version.release()
    finally:
        server.stop()
    return {way: found.overhead() for way, found in times.items()}


def make_ways(
    server: Server, channel: grpc.Channel, request: Arrays
) -> dict[str, Callable[[], Any]]:
    """Returns a call for each way; each takes bytes and gives bytes."""
    inference = Inference(server.manager, ServerConfig().limits.request_bytes)
    calls = Calls(Admission(1, server.metrics), server.metrics, server.manager.knows)
    api = RestApi(server.manager, inference, calls, server.metrics, _SECONDS)

    def handle(payload: bytes) -> bytes:
        parsed = predict_pb2.PredictRequest.FromString(payload)
        return inference.predict(parsed, time.monotonic() + _SECONDS).SerializeToString()

    def rest() -> bytes:
        answer = api.answer("POST", f"/v1/models/{_NAME}:predict", body)
        if answer.status != 200:
            raise RuntimeError(answer.body.decode())
        return answer.body

    contents, fields = _message(request, encode_tensor), _message(request, _encode_fields)
    body = orjson.dumps(
        {
            "signature_name": "rank",
            "inputs": {key: array.tolist() for key, array in request.items()},
        }
    )
    call = channel.unary_unary(messages.PREDICT)
    return {
        "tensor_content": lambda: handle(contents),
        "a value a field": lambda: handle(fields),
        "REST": rest,
        "a call over gRPC": lambda: call(contents, timeout=_SECONDS),
    }


def _message(request: Arrays, encode: Callable[[str, np.ndarray], Any]) -> bytes:
    message = messages.PredictRequest()
    message.model_spec.name = _NAME
    message.model_spec.signature_name = "rank"
    for key, array in request.items():
        message.inputs[key].ParseFromString(encode(key, array).SerializeToString())
    return bytes(message.SerializeToString())


def _encode_fields(_: str, array: np.ndarray) -> Any:
    proto = messages.TensorProto(dtype=messages.DATA_TYPES["DT_INT64"])
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    proto.int64_val.extend(array.ravel().tolist())
    return proto


def _table_row(name: str, way: str, found: dict[str, float]) -> str:
    target = "" if way == "a call over gRPC" else f"<= {TARGET:.0%}"
    return (
        f"| {name} | {way} | {found['model_ms']:.1f} | {found['added_ms']:.2f} | "
        f"{found['added_processor_ms']:.2f} | {found['share']:.1%} | {target} |"
    )


if __name__ == "__main__":
    main()
