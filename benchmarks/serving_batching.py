"""Micro-batching against none: single-example Predict calls from many clients at once.

    python -m benchmarks.serving_batching VERSIONS EXAMPLES [--clients 64] [--pairs 3]

VERSIONS is a folder of numbered versions, EXAMPLES a TFRecord file of examples for it. Each client
sends its next call when the last one is answered. The two settings take turns, a fresh server each
time; the client runs on the same machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from benchmarks.serving_processes import percentile, predict_requests, serving
from serving.protocol import messages

_WARM_SECONDS = 2.0
_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measurement: calls a second, latencies in milliseconds, failed calls."""

    rate: float
    p50: float
    p99: float
    failed: int


def measure(address: str, requests: list[bytes], clients: int, seconds: float) -> Reading:
    """Calls as often as ``clients`` clients can that each wait for their answer."""
    channels = [
        grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(_CHANNELS)
    ]
    calls = itertools.cycle([channel.unary_unary(messages.PREDICT) for channel in channels])
    endless = itertools.cycle(requests)
    latencies: list[float] = []
    failed = 0
    lock = threading.Lock()
    done = threading.Semaphore(0)
    begin = time.perf_counter() + _WARM_SECONDS
    end = begin + seconds

    def send() -> None:
        with lock:
            call, request = next(calls), next(endless)
        sent = time.perf_counter()
        call.future(request, timeout=30).add_done_callback(lambda found: answered(found, sent))

    def answered(found: Any, sent: float) -> None:
        nonlocal failed
        now = time.perf_counter()
        with lock:
            if found.exception() is not None:
                failed += 1
            elif begin <= now <= end:
                latencies.append(now - sent)
        if now < end:
            send()
        else:
            done.release()

    for _ in range(clients):
        send()
    for _ in range(clients):
        done.acquire()
    for channel in channels:
        channel.close()
    latencies.sort()
    return Reading(
        rate=len(latencies) / seconds,
        p50=percentile(latencies, 0.5) * 1e3,
        p99=percentile(latencies, 0.99) * 1e3,
        failed=failed,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", type=Path)
    parser.add_argument("examples", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    requests = predict_requests(arguments.examples, 256)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(arguments.pairs):
        for enabled in (False, True):
            setting = f"batching.enabled={str(enabled).lower()}"
            with serving(arguments.versions, setting, *arguments.settings) as server:
                found = measure(server.address, requests, arguments.clients, arguments.seconds)
            rates[enabled].append(found.rate)
            print(
                f"{setting:<24} {found.rate:8.0f} calls/s  p50 {found.p50:7.1f} ms  "
                f"p99 {found.p99:7.1f} ms  failed {found.failed}",
                flush=True,
            )
    ratio = statistics.median(rates[True]) / statistics.median(rates[False])
    print(f"with against without, medians of {arguments.pairs}: {ratio:.2f} times the calls")
    one, five, fifteen = os.getloadavg()
    print(f"load average of the machine: {one:.1f}, {five:.1f}, {fifteen:.1f}")


if __name__ == "__main__":
    main()
