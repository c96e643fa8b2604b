"""What the soak makes of its series, and that it goes on with one that was cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving_soak
from benchmarks.serving_soak import append, describe, read_series, verdict
from benchmarks.serving_swap import Outcome


def line(memory: float, *, server: int = 1, failed: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "server": server,
        "rate": 50.0,
        "seconds": 30.0,
        "answered": 1500,
        "failed": failed or {},
        "p50_ms": 2.0,
        "p99_ms": 9.0,
        "p999_ms": 20.0,
        "pushed": 1,
        "memory_mib": memory,
        "load_average": 3.0,
    }


def test_memory_that_settles_is_flat() -> None:
    early = [line(400 + 20 * number) for number in range(5)]
    late = [line(500 + number % 3) for number in range(20)]

    told = verdict(early + late)

    assert "12.5 minutes at 50 calls/s: 37500 answered, failed: none" in told
    assert "server 1: memory flat" in told


def test_memory_that_rises_is_told_for_the_server_it_rose_in() -> None:
    lines = [line(500, server=1) for _ in range(20)]
    lines += [line(400 + 5 * number, server=2) for number in range(20)]

    told = verdict(lines).splitlines()

    assert "server 1: memory flat" in told[1]
    assert "server 2: memory RISES: +70.0 MiB" in told[2]


def test_failures_are_added_up_by_code() -> None:
    lines = [
        line(500, failed={"UNAVAILABLE": 2}),
        line(500, failed={"UNAVAILABLE": 1, "UNKNOWN": 4}),
    ]

    assert "{'UNAVAILABLE': 3, 'UNKNOWN': 4}" in verdict(lines)
    assert "too short" in verdict(lines)
    assert verdict([]) == "nothing was sent"


def test_a_span_is_described() -> None:
    outcome = Outcome(latencies=[0.001 * number for number in range(1, 101)], failures=["INTERNAL"])

    found = describe(outcome)

    assert (found["answered"], found["failed"]) == (100, {"INTERNAL": 1})
    assert found["p50_ms"] == pytest.approx(51)
    assert found["p99_ms"] == pytest.approx(100)
    assert describe(Outcome())["p99_ms"] is None


def test_a_soak_goes_on_for_the_minutes_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series = tmp_path / "soak.jsonl"
    for _ in range(3):
        append(series, line(500))
    with series.open("a") as file:
        file.write(json.dumps(line(500))[:20])
    asked: list[tuple[int, float]] = []

    def soak(arguments: Any, earlier: Any, seconds: float) -> list[dict[str, Any]]:
        asked.append((len(earlier), seconds))
        return []

    monkeypatch.setattr(serving_soak, "soak", soak)
    call = ["model", "examples", "--output", str(series), "--minutes"]
    serving_soak.main([*call, "2"])
    serving_soak.main([*call, "1.5"])

    assert asked == [(3, 30.0)]
    append(series, line(510))
    assert [found["memory_mib"] for found in read_series(series)] == [500, 500, 500, 510]
    assert "1.5 minutes" in capsys.readouterr().out
