"""Figures of a load test: percentiles, outcomes, and a histogram as text or as a picture."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from serving.client_support.errors import StatusCode
from serving.loadtest.config import LoadConfig
from serving.loadtest.run import NOT_SENT, LoadResult

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
# Above this the machine that asks was itself late, and the figures say so.
LAG_SECONDS = 0.01

_BINS_A_DECADE = 8
_BAR = 40


def summarise(result: LoadResult, config: LoadConfig) -> dict[str, Any]:
    """Returns the figures as plain values, latencies in milliseconds.

    ``latency_ms`` is of the requests that were answered with OK. ``latency_of_all_ms`` counts
    the failed ones too, with the time they took to fail: with many time-outs only this one shows
    how bad it was.
    """
    ok = result.outcome == StatusCode.OK.value
    sent = ~np.isnan(result.latency)
    outcomes = Counter(result.outcome.tolist())
    lag = float(np.quantile(result.lag, 0.99))
    return {
        "target_rate": config.rate,
        "offered_rate": _rounded(len(result.due) / config.duration_seconds),
        "achieved_rate": _rounded(int(ok.sum()) / max(result.seconds, config.duration_seconds)),
        "seconds": _rounded(result.seconds),
        "requests": len(result.due),
        "arrivals": config.arrivals.value,
        "outcomes": dict(sorted(outcomes.items())),
        "errors": {
            code: count for code, count in sorted(outcomes.items()) if code != StatusCode.OK.value
        },
        "latency_ms": latencies(result.latency[ok]),
        "latency_of_all_ms": latencies(result.latency[sent]),
        "sender_lag_ms": {
            "p99": _rounded(1e3 * lag),
            "max": _rounded(1e3 * float(result.lag.max())),
        },
        "sender_kept_up": lag <= LAG_SECONDS and NOT_SENT not in outcomes,
    }


def latencies(seconds: np.ndarray) -> dict[str, float] | None:
    """Returns percentiles, mean and maximum in milliseconds; None of nothing.

    A percentile is the latency of a request that was measured, never a mean of two.
    """
    if not seconds.size:
        return None
    values = np.quantile(seconds, list(QUANTILES.values()), method="inverted_cdf").tolist()
    named = {name: _rounded(1e3 * value) for name, value in zip(QUANTILES, values, strict=True)}
    return {
        **named,
        "max": _rounded(1e3 * float(seconds.max())),
        "mean": _rounded(1e3 * float(seconds.mean())),
    }


def histogram(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts latencies in bins of equal ratio.

    Returns:
        Edges in milliseconds, [bins + 1], and counts, [bins].
    """
    milliseconds = np.maximum(1e3 * seconds, 1e-3)
    first = np.floor(np.log10(milliseconds.min()) * _BINS_A_DECADE)
    last = np.floor(np.log10(milliseconds.max()) * _BINS_A_DECADE) + 1
    steps = np.arange(first, last + 1) / _BINS_A_DECADE
    # By number of bin: an edge that is also a value falls the same way on either side.
    places = np.floor(np.log10(milliseconds) * _BINS_A_DECADE) - first
    counts = np.bincount(places.astype(int), minlength=len(steps) - 1)
    return 10.0**steps, counts


def histogram_text(seconds: np.ndarray) -> list[str]:
    """Returns the histogram as lines for a terminal; none if there is nothing to show."""
    if not seconds.size:
        return []
    edges, counts = histogram(seconds)
    longest = counts.max()
    return [
        f"{low:>9.2f} to {high:>9.2f} ms {count:>9,} {'#' * _bar(count, longest)}"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def draw_histogram(result: LoadResult, summary: dict[str, Any], path: Path) -> None:
    """Draws the latencies as a PNG: a histogram, and the latency at each due time.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot

    ok = result.outcome == StatusCode.OK.value
    failed = ~ok & ~np.isnan(result.latency)
    figure, (bars, course) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    try:
        if ok.any():
            edges, counts = histogram(result.latency[ok])
            bars.stairs(counts, edges, fill=True, color="#4878a8")
            for name in ("p50", "p99"):
                value = summary["latency_ms"][name]
                bars.axvline(value, color="#a84848", linewidth=1)
                bars.text(value, counts.max(), f" {name} {value:g} ms", va="bottom", fontsize=8)
        bars.set(xscale="log", xlabel="latency from due time [ms]", ylabel="requests")
        course.plot(result.due[ok], 1e3 * result.latency[ok], ".", markersize=2, color="#4878a8")
        course.plot(
            result.due[failed], 1e3 * result.latency[failed], "x", markersize=4, color="#a84848"
        )
        course.set(yscale="log", xlabel="due [s]", ylabel="latency [ms]; x failed")
        figure.suptitle(
            f"{summary['achieved_rate']:g} of {summary['target_rate']:g} requests/s, "
            f"{sum(summary['errors'].values())} of {summary['requests']} failed",
            fontsize=10,
        )
        staged = path.with_name(f"{path.name}.staged.{os.getpid()}")
        figure.savefig(staged, dpi=110, format="png")
        staged.replace(path)
    finally:
        pyplot.close(figure)


def _bar(count: int, longest: int) -> int:
    # Even one request among many shows: the tail is what a histogram is looked at for.
    return 0 if count == 0 else max(1, round(_BAR * count / longest))


def _rounded(value: float) -> float:
    return round(value, 3)
