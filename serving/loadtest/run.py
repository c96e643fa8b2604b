"""Open-loop load: requests go out when they are due, however slow the answers are.

A loop that waits for an answer before it sends the next request asks less of a server just when
the server is slow, and so never sees the queue that its users would stand in (coordinated
omission). Here the due times are drawn beforehand, a request never waits for another's answer,
and its latency counts from its due time: whatever held it up is in the figure.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.client_support.errors import StatusCode
from serving.loadtest.config import Arrivals, LoadConfig

# A due request for which there was no room: nothing a server said.
NOT_SENT = "NOT_SENT"
# One that was not over long after its deadline.
UNFINISHED = "UNFINISHED"

_SPIN_SECONDS = 0.0005


class Sender(Protocol):
    """Sends prepared requests without waiting for their answers."""

    def send(self, number: int, timeout: float, done: Callable[[StatusCode], None]) -> None:
        """Sends request ``number`` and calls ``done`` once, from any thread, when it is over."""

    def close(self) -> None:
        """Ends what is under way and closes the connections."""


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What became of each request that counts, in the order they were due.

    Attributes:
        due: seconds from the start of the test, [requests].
        lag: seconds from due to sent, [requests]; how well this machine kept up.
        latency: seconds from due to the end of the call, [requests]; NaN without an end.
        outcome: names of status codes, ``NOT_SENT`` or ``UNFINISHED``, [requests].
        seconds: from the first due time to the last end of a call.
    """

    due: np.ndarray
    lag: np.ndarray
    latency: np.ndarray
    outcome: np.ndarray
    seconds: float


class _Record:
    """Times and outcomes, written by the threads of the sender."""

    def __init__(self, count: int) -> None:
        self.ended = np.full(count, np.nan)
        self.outcome = np.full(count, NOT_SENT, dtype=object)
        self._outstanding = 0
        self._changed = threading.Condition()

    def begin(self, number: int, limit: int) -> bool:
        """Notes that a call is under way, unless there are ``limit``."""
        with self._changed:
            if self._outstanding >= limit:
                return False
            self._outstanding += 1
            self.outcome[number] = UNFINISHED
            return True

    def end(self, number: int, code: StatusCode) -> None:
        """Notes the end of a call."""
        now = time.perf_counter()
        with self._changed:
            if np.isnan(self.ended[number]):
                self.ended[number] = now
                self.outcome[number] = code.value
                self._outstanding -= 1
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Waits until no call is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding == 0, timeout=seconds)


def due_times(config: LoadConfig) -> np.ndarray:
    """Returns when requests are due, in seconds from the start, warm-up first.

    The seconds that count begin at ``warmup_seconds``.
    """
    end = config.warmup_seconds + config.duration_seconds
    if config.arrivals is Arrivals.EVEN:
        return np.arange(int(np.floor(end * config.rate + 1e-9))) / config.rate
    random = np.random.default_rng(config.seed)
    # Given how many there are, the arrivals of a Poisson process are spread evenly at random.
    return np.sort(random.uniform(0.0, end, random.poisson(end * config.rate)))


def run_load(sender: Sender, requests: int, config: LoadConfig) -> LoadResult:
    """Sends requests when they are due and waits for the last answers.

    Args:
        sender: sends request 0 to ``requests - 1``, each any number of times.
        requests: how many different requests it has.
        config: rate, duration and deadline.

    Raises:
        ValueError: there are no requests, or so few seconds that none is due.
    """
    if requests < 1:
        raise ValueError("requests: at least 1 is expected, found none")
    due = due_times(config)
    counted = due >= config.warmup_seconds
    if not counted.any():
        raise ValueError(
            f"rate {config.rate} for {config.duration_seconds} s: no request is due; give more"
        )
    record = _Record(len(due))
    sent = np.full(len(due), np.nan)
    start = time.perf_counter() + 0.05
    for number, offset in enumerate(due):
        _wait_until(start + offset)
        sent[number] = time.perf_counter()
        if record.begin(number, config.max_outstanding):
            sender.send(
                number % requests,
                config.deadline_seconds,
                functools.partial(record.end, number),
            )
    # A call may end a little after its deadline.
    record.wait(config.deadline_seconds + 1.0)
    latency = record.ended - start - due
    ended = np.nanmax(record.ended[counted]) if not np.isnan(latency[counted]).all() else sent[-1]
    return LoadResult(
        due=due[counted],
        lag=(sent - start - due)[counted],
        latency=latency[counted],
        outcome=record.outcome[counted],
        seconds=float(ended - start - due[counted][0]),
    )


def batches(rows: Sequence[object], size: int) -> list[Sequence[object]]:
    """Cuts rows into requests of ``size``; the last ones that do not fill one are left out."""
    whole = len(rows) - len(rows) % size
    return [rows[first : first + size] for first in range(0, whole, size)]


def _wait_until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        # A sleep may end late; the last bit is spent on yielding.
        time.sleep(left - _SPIN_SECONDS if left > _SPIN_SECONDS else 0)
