"""When a call is made again, and when never."""

from __future__ import annotations

import pytest

from serving.client_support.config import RetryConfig
from serving.client_support.errors import ServingError, StatusCode, code_of_http
from serving.client_support.retry import call_with_retries


class Clock:
    """Time that passes only in pauses and in attempts."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def run(
    failures: list[ServingError],
    *,
    config: RetryConfig | None = None,
    deadline: float = 10.0,
    takes: float = 0.0,
) -> tuple[str, list[float], Clock]:
    """Answers after the given failures; returns the answer and the seconds each attempt had."""
    clock, left = Clock(), []
    waiting = list(failures)

    def attempt(seconds: float) -> str:
        left.append(seconds)
        clock.now += takes
        if waiting:
            raise waiting.pop(0)
        return "answer"

    answer = call_with_retries(
        attempt,
        config or RetryConfig(),
        deadline,
        clock=clock,
        sleep=clock.sleep,
        draw=lambda _, high: high,
    )
    return answer, left, clock


def failure(code: StatusCode = StatusCode.UNAVAILABLE, **more: bool) -> ServingError:
    return ServingError(code, "no", **more)


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
def test_a_safe_failure_is_tried_again(code: StatusCode) -> None:
    answer, left, clock = run([failure(code), failure(code)])

    assert answer == "answer"
    assert clock.pauses == [0.05, 0.1]
    assert left == pytest.approx([10, 9.95, 9.85])


@pytest.mark.parametrize(
    "code",
    [
        code
        for code in StatusCode
        if code not in (StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)
    ],
)
def test_every_other_failure_is_final(code: StatusCode) -> None:
    with pytest.raises(ServingError) as caught:
        run([failure(code)])
    assert caught.value.code is code
    assert caught.value.attempts == 1


def test_a_message_that_is_too_large_is_final() -> None:
    with pytest.raises(ServingError) as caught:
        run([failure(StatusCode.RESOURCE_EXHAUSTED, retriable=False)])
    assert caught.value.attempts == 1


def test_the_last_failure_is_reported_with_the_attempts() -> None:
    with pytest.raises(ServingError) as caught:
        run([failure() for _ in range(9)], config=RetryConfig(attempts=3))
    assert caught.value.attempts == 3
    assert str(caught.value) == "UNAVAILABLE: no (after 3 attempts)"


def test_a_pause_is_never_longer_than_the_longest() -> None:
    config = RetryConfig(attempts=6, first_backoff_seconds=0.4, max_backoff_seconds=1.0)

    _, _, clock = run([failure() for _ in range(5)], config=config)

    assert clock.pauses == [0.4, 0.8, 1.0, 1.0, 1.0]


def test_no_attempt_begins_after_the_deadline() -> None:
    with pytest.raises(ServingError) as caught:
        run([failure(), failure()], deadline=0.5, takes=0.6)
    assert caught.value.attempts == 1
    assert caught.value.code is StatusCode.UNAVAILABLE


def test_a_pause_that_would_miss_the_deadline_is_not_made() -> None:
    with pytest.raises(ServingError) as caught:
        run([failure(), failure()], deadline=0.12)
    assert caught.value.attempts == 2


def test_pauses_are_drawn_from_zero_up() -> None:
    drawn: list[tuple[float, float]] = []
    clock = Clock()
    failures = [failure()]

    def attempt(_: float) -> str:
        if failures:
            raise failures.pop()
        return "answer"

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    call_with_retries(attempt, RetryConfig(), 1.0, clock=clock, sleep=clock.sleep, draw=draw)

    assert drawn == [(0.0, 0.05)]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, StatusCode.OK),
        (400, StatusCode.INVALID_ARGUMENT),
        (401, StatusCode.UNAUTHENTICATED),
        (404, StatusCode.NOT_FOUND),
        (418, StatusCode.INVALID_ARGUMENT),
        (429, StatusCode.RESOURCE_EXHAUSTED),
        (500, StatusCode.INTERNAL),
        (503, StatusCode.UNAVAILABLE),
        (504, StatusCode.DEADLINE_EXCEEDED),
        (599, StatusCode.INTERNAL),
    ],
)
def test_http_statuses_stand_for_codes(status: int, code: StatusCode) -> None:
    assert code_of_http(status) is code
