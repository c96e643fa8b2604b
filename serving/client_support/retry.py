"""Calls made again after safe failures, within one deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from serving.client_support.config import RetryConfig
from serving.client_support.errors import ServingError, StatusCode

T = TypeVar("T")


def call_with_retries(
    attempt: Callable[[float], T],
    config: RetryConfig,
    deadline_seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[float, float], float] = random.uniform,
) -> T:
    """Calls ``attempt`` until it succeeds, fails for good or the deadline would be missed.

    Args:
        attempt: makes one call; takes the seconds that are left for it.
        config: which pauses and how many attempts.
        deadline_seconds: seconds for all attempts and pauses together.
        clock: seconds of a clock that only goes forward.
        sleep: pauses for seconds.
        draw: draws evenly between two numbers.

    Raises:
        ServingError: the last failure, with the number of attempts made.
    """
    end = clock() + deadline_seconds
    longest = config.first_backoff_seconds
    attempts = 0
    while True:
        left = end - clock()
        if left <= 0:
            raise ServingError(
                StatusCode.DEADLINE_EXCEEDED,
                f"no answer within {deadline_seconds:g} s",
                attempts=max(attempts, 1),
            )
        attempts += 1
        try:
            return attempt(left)
        except ServingError as error:
            error.attempts = attempts
            if not error.retriable or attempts >= config.attempts:
                raise
            pause = draw(0.0, min(longest, config.max_backoff_seconds))
            # The failure at hand says more than a deadline that the next attempt would miss.
            if clock() + pause >= end:
                raise
        sleep(pause)
        longest = min(longest * config.multiplier, config.max_backoff_seconds)
