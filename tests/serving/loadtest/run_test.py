"""Open-loop load: due times, what a stalled server does to the figures, and the report."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from schemas.loading import ConfigError, build
from serving.client_support.config import ClientConfig
from serving.client_support.errors import StatusCode
from serving.loadtest.config import Arrivals, LoadConfig
from serving.loadtest.report import draw_histogram, histogram, histogram_text, latencies, summarise
from serving.loadtest.run import NOT_SENT, UNFINISHED, LoadResult, batches, due_times, run_load
from serving.loadtest.senders import GrpcSender, RestSender
from serving.protocol import messages
from tests.serving.fake_servers import grpc_server, http_server


def even(rate: float, duration: float, **more: Any) -> LoadConfig:
    return LoadConfig(
        rate=rate,
        duration_seconds=duration,
        arrivals=Arrivals.EVEN,
        **{"warmup_seconds": 0.0, **more},
    )


class FrozenServer:
    """Answers at once, but for a while in which it answers nothing."""

    def __init__(self, frozen_from: float, frozen_to: float) -> None:
        self._start = time.perf_counter()
        self._from, self._to = frozen_from, frozen_to
        self.numbers: list[int] = []

    def send(self, number: int, timeout: float, done: Callable[[StatusCode], None]) -> None:
        self.numbers.append(number)
        now = time.perf_counter() - self._start
        if self._from <= now < self._to:
            threading.Timer(self._to - now, done, [StatusCode.OK]).start()
        else:
            done(StatusCode.OK)

    def close(self) -> None:
        pass


def test_a_stall_is_in_the_latency_of_all_that_were_due_in_it() -> None:
    result = run_load(FrozenServer(0.35, 0.75), 1, even(100, 1.0))

    # Due times go on through the stall of 0.4 s, where a loop that waits would ask once.
    slow = np.sort(result.latency[result.latency > 0.1])
    assert 22 <= len(slow) <= 34
    assert len(result.due) == 100
    # They waited evenly long, from the whole stall down.
    assert slow[-1] == pytest.approx(0.4, abs=0.06)
    assert np.median(slow) == pytest.approx(0.25, abs=0.06)


def test_a_request_that_goes_out_late_counts_from_its_due_time() -> None:
    class SlowSender(FrozenServer):
        def send(self, number: int, timeout: float, done: Callable[[StatusCode], None]) -> None:
            if len(self.numbers) == 0:
                time.sleep(0.3)
            super().send(number, timeout, done)

    result = run_load(SlowSender(9, 9), 1, even(50, 0.4))

    assert result.latency[0] >= 0.3
    assert result.latency[5] >= 0.18
    assert result.lag[5] >= 0.18
    assert not summarise(result, even(50, 0.4))["sender_kept_up"]


def test_requests_are_used_in_turn() -> None:
    server = FrozenServer(9, 9)

    run_load(server, 3, even(200, 0.04))

    assert server.numbers == [0, 1, 2, 0, 1, 2, 0, 1]


def test_the_warm_up_is_sent_and_not_counted() -> None:
    server = FrozenServer(9, 9)

    result = run_load(server, 1, even(100, 0.1, warmup_seconds=0.1))

    assert len(server.numbers) == 20
    assert len(result.due) == 10
    assert result.due[0] == pytest.approx(0.1)


def test_above_the_limit_a_request_is_counted_as_not_sent() -> None:
    class Silent(FrozenServer):
        def send(self, number: int, timeout: float, done: Callable[[StatusCode], None]) -> None:
            pass

    config = even(100, 0.1, max_outstanding=4, deadline_seconds=0.05)
    result = run_load(Silent(9, 9), 1, config)

    outcomes = result.outcome.tolist()
    assert outcomes == [UNFINISHED] * 4 + [NOT_SENT] * 6
    summary = summarise(result, config)
    assert summary["latency_ms"] is None
    assert summary["errors"] == {NOT_SENT: 6, UNFINISHED: 4}
    assert not summary["sender_kept_up"]


def test_even_arrivals_are_at_equal_distances() -> None:
    np.testing.assert_allclose(due_times(even(4, 1.0)), [0, 0.25, 0.5, 0.75])


def test_random_arrivals_are_those_of_a_poisson_process() -> None:
    config = LoadConfig(rate=1000, duration_seconds=20, warmup_seconds=0)

    due = due_times(config)

    assert len(due) == pytest.approx(20_000, abs=600)
    gaps = np.diff(due)
    assert (gaps >= 0).all()
    # Gaps are exponential: their deviation is their mean, and 1/e of them are above it.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert (gaps > gaps.mean()).mean() == pytest.approx(np.exp(-1), abs=0.02)
    np.testing.assert_array_equal(due, due_times(config))
    assert len(due_times(LoadConfig(rate=1000, duration_seconds=20, seed=2))) != len(due)


def test_a_load_without_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="requests"):
        run_load(FrozenServer(9, 9), 0, even(10, 1))
    with pytest.raises(ValueError, match="no request is due"):
        run_load(FrozenServer(9, 9), 1, even(1, 0.5))


def test_batches_leave_out_what_does_not_fill_one() -> None:
    assert batches([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4]]
    assert batches([1], 2) == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rate": 0}, "rate 0"),
        ({"rate": float("inf")}, "rate inf"),
        ({"duration_seconds": -1}, "duration_seconds -1"),
        ({"warmup_seconds": -1}, "warmup_seconds -1"),
        ({"deadline_seconds": 0}, "deadline_seconds 0"),
        ({"max_outstanding": 0}, "max_outstanding 0"),
        ({"arrivals": "bursts"}, "arrivals"),
    ],
)
def test_a_bad_setting_is_refused_by_name(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build(LoadConfig, {"rate": 10, **values}, where="loadtest")


def test_grpc_calls_overlap_and_their_ends_are_told() -> None:
    seen: list[bytes] = []

    def answer(data: bytes, context: Any) -> bytes:
        seen.append(data)
        time.sleep(0.1)
        if data == b"bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return b"anything"

    with grpc_server({messages.PREDICT: answer}, threads=32) as where:
        sender = GrpcSender(ClientConfig(address=where), messages.PREDICT, [b"good", b"bad"])
        try:
            result = run_load(sender, 2, even(100, 0.2))
        finally:
            sender.close()

    assert set(seen) == {b"good", b"bad"}
    assert result.outcome.tolist() == ["OK", "INVALID_ARGUMENT"] * 10
    # Twenty calls of 0.1 s one after the other would take 2 s.
    assert result.seconds < 1.5
    assert result.latency.min() >= 0.1


def test_a_grpc_call_ends_at_its_deadline() -> None:
    def answer(data: bytes, context: Any) -> bytes:
        time.sleep(1.0)
        return b""

    with grpc_server({messages.PREDICT: answer}) as where:
        sender = GrpcSender(ClientConfig(address=where), messages.PREDICT, [b""])
        try:
            result = run_load(sender, 1, even(20, 0.1, deadline_seconds=0.2))
        finally:
            sender.close()

    assert result.outcome.tolist() == ["DEADLINE_EXCEEDED"] * 2
    assert (result.latency < 0.9).all()


def test_rest_calls_overlap_and_their_ends_are_told() -> None:
    def respond(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        time.sleep(0.1)
        return (200 if body == b"good" else 503), b"{}"

    with http_server(respond) as where:
        sender = RestSender(
            ClientConfig(address=where, connections=16), f"{where}/v1", [b"good", b"bad"], 16
        )
        try:
            result = run_load(sender, 2, even(50, 0.2))
        finally:
            sender.close()

    assert result.outcome.tolist() == ["OK", "UNAVAILABLE"] * 5
    assert result.seconds < 1.0


def test_rest_opens_no_connection_for_what_those_before_can_carry() -> None:
    together = threading.Barrier(24)
    connections: list[int] = []

    def respond(*_: Any) -> tuple[int, bytes]:
        together.wait(20)
        return 200, b"{}"

    with http_server(respond, connected=connections.append) as where:
        sender = RestSender(ClientConfig(address=where, deadline_seconds=20), where, [b""], 24)
        try:
            for _ in range(3):
                ended: queue.SimpleQueue[StatusCode] = queue.SimpleQueue()
                for _ in range(24):
                    sender.send(0, 20.0, ended.put)
                assert {ended.get(timeout=20) for _ in range(24)} == {StatusCode.OK}
        finally:
            sender.close()

    assert len(connections) == 24


def test_a_rest_call_that_finds_no_thread_ends_at_its_deadline() -> None:
    def respond(*_: Any) -> tuple[int, bytes]:
        time.sleep(0.4)
        return 200, b"{}"

    with http_server(respond) as where:
        sender = RestSender(ClientConfig(address=where), where, [b""], 1)
        try:
            result = run_load(sender, 1, even(10, 0.2, deadline_seconds=0.2))
        finally:
            sender.close()

    assert result.outcome.tolist() == ["DEADLINE_EXCEEDED"] * 2


def result_of(latency: list[float], outcome: list[str]) -> LoadResult:
    count = len(latency)
    return LoadResult(
        due=np.arange(count) / 10,
        lag=np.zeros(count),
        latency=np.asarray(latency),
        outcome=np.asarray(outcome, dtype=object),
        seconds=count / 10,
    )


def test_percentiles_are_measured_latencies() -> None:
    seconds = np.arange(1, 1001) / 1000

    found = latencies(np.random.default_rng(0).permutation(seconds))

    assert found == {
        "p50": 500,
        "p90": 900,
        "p99": 990,
        "p99.9": 999,
        "max": 1000,
        "mean": 500.5,
    }
    assert latencies(np.zeros(0)) is None


def test_failed_requests_are_counted_by_code_and_kept_apart() -> None:
    result = result_of([0.01, 0.02, 5.0, np.nan], ["OK", "OK", "DEADLINE_EXCEEDED", NOT_SENT])

    summary = summarise(result, even(10, 0.4))

    assert summary["outcomes"] == {"DEADLINE_EXCEEDED": 1, NOT_SENT: 1, "OK": 2}
    assert summary["errors"] == {"DEADLINE_EXCEEDED": 1, NOT_SENT: 1}
    assert summary["latency_ms"]["max"] == 20
    assert summary["latency_of_all_ms"]["max"] == 5000
    assert summary["achieved_rate"] == 5
    assert summary["offered_rate"] == 10


def test_the_achieved_rate_counts_the_time_to_the_last_answer() -> None:
    result = LoadResult(
        due=np.array([0.0, 0.5]),
        lag=np.zeros(2),
        latency=np.array([0.1, 3.5]),
        outcome=np.array(["OK", "OK"], dtype=object),
        seconds=4.0,
    )

    assert summarise(result, even(2, 1.0))["achieved_rate"] == 0.5


def test_the_histogram_counts_every_latency_once() -> None:
    seconds = np.array([0.001, 0.00101, 0.01, 0.0999, 2.0, 0.0])

    edges, counts = histogram(seconds)

    assert counts.sum() == len(seconds)
    assert len(edges) == len(counts) + 1
    np.testing.assert_allclose(edges[1:] / edges[:-1], 10 ** (1 / 8))
    for value in seconds * 1e3:
        place = np.searchsorted(edges, max(value, 1e-3) * (1 + 1e-9), side="right") - 1
        assert counts[place] > 0
    text = histogram_text(seconds)
    assert len(text) == len(counts)
    assert text[-1].endswith("#")
    assert histogram_text(np.zeros(0)) == []


def test_a_lone_slow_request_shows_among_many() -> None:
    text = histogram_text(np.array([0.001] * 100_000 + [1.0]))

    assert text[-1].rstrip().endswith("1 #")


@pytest.mark.parametrize(
    "outcome", [["OK", "OK"], ["OK", "UNAVAILABLE"], ["UNAVAILABLE", "UNAVAILABLE"]]
)
def test_the_picture_is_drawn(tmp_path: Path, outcome: list[str]) -> None:
    result = result_of([0.01, 0.5], outcome)

    draw_histogram(result, summarise(result, even(10, 0.2)), tmp_path / "load.png")

    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    assert [one.name for one in tmp_path.iterdir()] == ["load.png"]
