"""Configuration of a load test."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from schemas.loading import STRICT


class Arrivals(enum.StrEnum):
    """When requests are due: at random and independently, or at even distances."""

    POISSON = "poisson"
    EVEN = "even"


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """A load test.

    Attributes:
        rate: requests a second.
        duration_seconds: how long requests that count are due.
        warmup_seconds: how long requests are sent before, which do not count.
        arrivals: how their due times are spread.
        seed: of the random arrivals.
        deadline_seconds: after which a request is given up, from when it is sent.
        max_outstanding: requests under way above which a due one is counted as not sent, so that
            a server that does not answer cannot fill this machine's memory.
    """

    __pydantic_config__ = STRICT

    rate: float
    duration_seconds: float = 30.0
    warmup_seconds: float = 3.0
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 1
    deadline_seconds: float = 5.0
    max_outstanding: int = 5_000

    def __post_init__(self) -> None:
        for name in ("rate", "duration_seconds", "deadline_seconds"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} {value}: a number above 0 is accepted")
        if not (self.warmup_seconds >= 0 and math.isfinite(self.warmup_seconds)):
            raise ValueError(f"warmup_seconds {self.warmup_seconds}: at least 0 is accepted")
        if self.max_outstanding < 1:
            raise ValueError(f"max_outstanding {self.max_outstanding}: at least 1 is accepted")
