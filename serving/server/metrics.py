"""Metrics in the text format of Prometheus, under TensorFlow Serving's names."""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# TensorFlow Serving's limits for latencies: from 10 microseconds by steps of 1.8.
LATENCY_MICROS = tuple(10 * 1.8**step for step in range(33))
_ROWS = tuple(float(2**step) for step in range(12))


class Metric:
    """A counter or gauge with labels."""

    def __init__(self, name: str, kind: str, text: str, labels: Sequence[str]):
        self.name = name
        self._kind = kind
        self._text = text
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Adds to the value of these labels."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def put(self, *labels: str, value: float) -> None:
        """Sets the value of these labels."""
        with self._lock:
            self._values[labels] = value

    def drop(self, *labels: str) -> None:
        """Forgets these labels."""
        with self._lock:
            self._values.pop(labels, None)

    def value(self, *labels: str) -> float:
        """Returns the value of these labels, 0 if there is none."""
        with self._lock:
            return self._values.get(labels, 0)

    def lines(self) -> list[str]:
        """Returns the metric as lines of text."""
        with self._lock:
            values = sorted(self._values.items())
        head = [f"# HELP {self.name} {self._text}", f"# TYPE {self.name} {self._kind}"]
        return head + [
            f"{self.name}{_braces(self._labels, key)} {_number(value)}" for key, value in values
        ]


class Histogram:
    """A distribution with labels and fixed limits."""

    def __init__(self, name: str, text: str, labels: Sequence[str], limits: Sequence[float]):
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._limits = tuple(limits)
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, *labels: str, value: float) -> None:
        """Counts one value in."""
        position = bisect.bisect_left(self._limits, value)
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._counts[labels] = [0] * (len(self._limits) + 1)
            counts[position] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def drop(self, first: str) -> None:
        """Forgets all whose first label is this one."""
        with self._lock:
            for key in [key for key in self._counts if key[0] == first]:
                del self._counts[key], self._sums[key]

    def count(self, *labels: str) -> int:
        """Returns how many values of these labels were counted."""
        with self._lock:
            return sum(self._counts.get(labels, ()))

    def lines(self) -> list[str]:
        """Returns the metric as lines of text."""
        with self._lock:
            items = sorted((key, list(counts)) for key, counts in self._counts.items())
            sums = dict(self._sums)
        result = [f"# HELP {self.name} {self._text}", f"# TYPE {self.name} histogram"]
        for key, counts in items:
            total = 0
            for limit, count in zip((*self._limits, math.inf), counts, strict=True):
                total += count
                labels = _braces((*self._labels, "le"), (*key, _number(limit)))
                result.append(f"{self.name}_bucket{labels} {total}")
            labels = _braces(self._labels, key)
            result.append(f"{self.name}_sum{labels} {_number(sums[key])}")
            result.append(f"{self.name}_count{labels} {total}")
        return result


class ServingMetrics:
    """All metrics of a server.

    Attributes:
        requests: inference calls by model and status, as TensorFlow Serving counts them.
        shed: calls refused for want of room.
        outstanding: inference calls under way.
        load_failures: loads that failed, by model and version.
        states: state of each version, by TensorFlow Serving's number of it.
    """

    def __init__(self) -> None:
        self.requests = Metric(
            ":tensorflow:serving:request_count",
            "counter",
            "The total number of requests.",
            ("model_name", "status"),
        )
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for requests.",
            ("model_name", "API", "entrypoint"),
            LATENCY_MICROS,
        )
        self._runtime = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) for the TensorFlow runtime.",
            ("model_name", "API", "runtime"),
            LATENCY_MICROS,
        )
        self._warmup = Histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the model.",
            ("model_path", "status"),
            LATENCY_MICROS,
        )
        self._batch_rows = Histogram(
            ":lengthwise:serving:batch_rows",
            "Rows of the batches that were run.",
            ("model_name", "signature"),
            _ROWS,
        )
        self._batch_requests = Histogram(
            ":lengthwise:serving:batch_requests",
            "Requests of the batches that were run.",
            ("model_name", "signature"),
            _ROWS,
        )
        self.shed = Metric(
            ":lengthwise:serving:shed_count", "counter", "Calls refused for want of room.", ()
        )
        self.outstanding = Metric(
            ":lengthwise:serving:outstanding_calls", "gauge", "Inference calls under way.", ()
        )
        self.load_failures = Metric(
            ":lengthwise:serving:load_failure_count",
            "counter",
            "Loads of a version that failed.",
            ("model_name", "version"),
        )
        self.states = Metric(
            ":lengthwise:serving:version_state",
            "gauge",
            "State of a version: 10 start, 20 loading, 30 available, 40 unloading, 50 end.",
            ("model_name", "version"),
        )

    def request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Counts an inference call that has ended."""
        self.requests.add(model, status)
        if status == "OK":
            self._latency.observe(model, api, entrypoint, value=seconds * 1e6)

    def runtime(self, model: str, seconds: float) -> None:
        """Counts a call of TensorFlow."""
        self._runtime.observe(model, "Predict", "TF1", value=seconds * 1e6)

    def warmup(self, path: str, status: str, seconds: float) -> None:
        """Counts the warm-up of a version."""
        self._warmup.observe(path, status, value=seconds * 1e6)

    def forget_warmup(self, path: str) -> None:
        """Forgets the warm-up of a version that was let go: new ones come without end."""
        self._warmup.drop(path)

    def batch(self, model: str, signature: str, requests: int, rows: int) -> None:
        """Counts a batch that is about to be run."""
        self._batch_requests.observe(model, signature, value=requests)
        self._batch_rows.observe(model, signature, value=rows)

    def page(self) -> str:
        """Returns all metrics as text."""
        metrics = (
            self.requests,
            self._latency,
            self._runtime,
            self._warmup,
            self._batch_requests,
            self._batch_rows,
            self.shed,
            self.outstanding,
            self.load_failures,
            self.states,
        )
        return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return f"{value:.10g}"
