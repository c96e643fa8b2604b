"""Notices a training that does not get on although all of its processes are there.

A process that is stopped, a file system that hangs or a network that lost a message leave every
worker waiting in a step for the others, without an error and for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.workers.cluster import Cluster

# A training process that notes nothing for so long does not run.
SILENT_SECONDS = 30.0
# A watch that looks less often than this stood still itself.
ABSENT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What a training process says of itself about every second.

    Attributes:
        beats: how often it has said something.
        begun: how many things it has begun, see :class:`models.activity.Activity`.
        doing: the last of them.
    """

    beats: int = 0
    begun: int = 0
    doing: str = "its start"


class StallWatch:
    """Names the worker that a training waits for once it has waited too long.

    Time in which this process stood still itself does not count: what stopped it may have stopped
    the others.

    Args:
        cluster: the workers.
        limit: seconds in which no worker has begun anything.
        clock: seconds.
    """

    def __init__(
        self, cluster: Cluster, limit: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._limit = limit
        self._clock = clock
        self._looked = clock()
        self._watched = self._moved = 0.0
        self._last: dict[int, Pulse] = {}
        self._beaten: dict[int, float] = {}
        self._training: list[int] = []

    def fault(self, pulses: Mapping[int, Pulse]) -> str | None:
        """Says which worker the training waits for, or nothing while it gets on.

        Args:
            pulses: by worker, of those that still train.
        """
        now = self._clock()
        self._watched += min(now - self._looked, ABSENT_SECONDS)
        self._looked = now
        for index, pulse in pulses.items():
            last = self._last.get(index)
            if last is None or last.begun != pulse.begun:
                self._moved = self._watched
            if last is None or last.beats != pulse.beats:
                self._beaten[index] = self._watched
            self._last[index] = pulse
        self._training = sorted(pulses)
        if not pulses or self._watched - self._moved < self._limit:
            return None
        since = f"the training has not got on for {self._limit / 60:g} min (train.stall_minutes)"
        silent = self.silent()
        if silent:
            return f"{silent}: {since}"
        furthest = max(pulse.begun for pulse in pulses.values())
        behind = [index for index in self._training if pulses[index].begun < furthest]
        if behind:
            return f"{self._names(behind)} is waited for by the others: {since}"
        return f"{self._names(self._training)} wait for each other: {since}"

    def silent(self) -> str | None:
        """Says which training processes did not run at the last look, or nothing."""
        found = [i for i in self._training if self._watched - self._beaten[i] >= SILENT_SECONDS]
        return f"{self._names(found)} does not run, stopped or held up" if found else None

    def _names(self, indices: list[int]) -> str:
        return " and ".join(
            f"{self._cluster.name(index)}, at {self._last[index].doing}," for index in indices
        )
