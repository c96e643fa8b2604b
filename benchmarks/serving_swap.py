"""Hot swap under load: a new version every few seconds, at half the measured maximum rate.

    python -m benchmarks.serving_swap MODEL EXAMPLES [--minutes 5] [--every 5] [--distinct]
        [--set KEY=VALUE]

MODEL is a SavedModel folder, EXAMPLES a TFRecord file of examples for it
(``benchmarks/serving_model.py`` writes both). First the highest rate
is measured with 64 clients, then calls are sent at half of it: without swaps for a while, then with
them. Calls are sent on a schedule that does not wait for answers, and a latency counts from the
moment a call was due, so that a stall is not hidden. The client runs on the same machine.

The versions are copies, so the server can keep what it prepared for one of them for the next. With
``--distinct`` each has a graph of its own, as two trainings have.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from benchmarks.serving_batching import measure
from benchmarks.serving_processes import Running, percentile, predict_requests, serving
from serving.protocol import messages

_MAX_RATE_SECONDS = 10.0
_STEADY_SECONDS = 30.0
_KEPT_VERSIONS = 3
# The version of the schema, which is 1 already: it changes the file, but not what it means.
_MARK = b"\x08\x01"


@dataclass(kw_only=True)
class Outcome:
    """What became of the calls of one phase.

    Attributes:
        latencies: seconds from when a call was due to its answer.
        failures: status codes of failed calls.
        versions: versions that answered.
    """

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    versions: set[int] = field(default_factory=set)


def send_steadily(address: str, requests: list[bytes], rate: float, seconds: float) -> Outcome:
    """Sends calls at a fixed rate, whatever becomes of them."""
    outcome = Outcome()
    lock = threading.Lock()
    left = threading.Semaphore(0)
    endless = itertools.cycle(requests)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            messages.PREDICT, response_deserializer=messages.PredictResponse.FromString
        )

        def answered(found: Any, due: float) -> None:
            now = time.perf_counter()
            error = found.exception()
            with lock:
                if error is None:
                    outcome.latencies.append(now - due)
                    outcome.versions.add(found.result().model_spec.version.value)
                else:
                    outcome.failures.append(error.code().name)
            left.release()

        start = time.perf_counter()
        count = int(rate * seconds)
        for number in range(count):
            due = start + number / rate
            time.sleep(max(due - time.perf_counter(), 0))
            call.future(next(endless), timeout=30).add_done_callback(
                lambda found, due=due: answered(found, due)
            )
        for _ in range(count):
            left.acquire()
    outcome.latencies.sort()
    return outcome


class Swapper:
    """Pushes copies of a model as ever new versions, and notes the server's memory."""

    def __init__(
        self, model: Path, versions: Path, server: Running, every: float, *, distinct: bool
    ):
        self._model = model
        self._versions = versions
        self._server = server
        self._every = every
        self._distinct = distinct
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.memory: list[float] = []

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.count(2):
            if self._stop.wait(self._every):
                return
            push_copy(self._model, self._versions, number, distinct=self._distinct)
            shutil.rmtree(self._versions / str(number - _KEPT_VERSIONS), ignore_errors=True)
            self.memory.append(self._server.resident_mebibytes())


def push_copy(model: Path, versions: Path, number: int, *, distinct: bool = False) -> None:
    """Puts a model under a number, complete from the first moment."""
    staged = versions / f".staging-{number}"
    shutil.copytree(model, staged)
    if distinct:
        with (staged / "saved_model.pb").open("ab") as graph:
            graph.write(_MARK * number)
    os.rename(staged, versions / str(number))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    requests = predict_requests(arguments.examples, 256)
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder)
        push_copy(arguments.model, versions, 1)
        with serving(versions, *arguments.settings) as server:
            most = measure(server.address, requests, 64, _MAX_RATE_SECONDS).rate
            print(f"maximum: {most:.0f} calls/s", flush=True)
            steady = send_steadily(server.address, requests, most / 2, _STEADY_SECONDS)
            report("steady", steady)
            seconds = arguments.minutes * 60
            swapper = Swapper(
                arguments.model, versions, server, arguments.every, distinct=arguments.distinct
            )
            with swapper:
                swapped = send_steadily(server.address, requests, most / 2, seconds)
            report("swapping", swapped)
    ratio = percentile(swapped.latencies, 0.99) / percentile(steady.latencies, 0.99)
    print(
        f"versions that answered: {len(swapped.versions)} of {len(swapper.memory) + 1}; "
        f"p99 {ratio:.1f} times the steady one"
    )
    one, five, fifteen = os.getloadavg()
    print(f"load average of the machine: {one:.1f}, {five:.1f}, {fifteen:.1f}")
    memory = swapper.memory
    if len(memory) > 4:
        print(
            f"memory: {memory[0]:.0f} MiB at the first swap, {memory[2]:.0f} at the third, "
            f"{statistics.median(memory[-3:]):.0f} at the end, {max(memory):.0f} at most"
        )


def report(title: str, outcome: Outcome) -> None:
    """Prints the figures of a phase."""
    codes = {code: outcome.failures.count(code) for code in sorted(set(outcome.failures))}
    print(
        f"{title:<9} {len(outcome.latencies):8d} calls  "
        f"p50 {percentile(outcome.latencies, 0.5) * 1e3:7.1f} ms  "
        f"p99 {percentile(outcome.latencies, 0.99) * 1e3:7.1f} ms  "
        f"failed {len(outcome.failures)} {codes or ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
