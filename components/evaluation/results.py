"""Reads an evaluation back: metrics by slice, and why a model was refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tensorflow_model_analysis.api import model_eval_lib
from tensorflow_model_analysis.constants import BASELINE_KEY
from tensorflow_model_analysis.proto import (
    config_pb2,
    metrics_for_slice_pb2,
    validation_result_pb2,
)

from components.config import MetricName
from components.evaluation.metrics import CHECKED_PREFIX, INVALID_SCORES, REPORTED

Metrics = dict[str, float | int | None]


def read_metrics(evaluation_uri: str | Path, *, baseline: bool = False) -> dict[str, Any]:
    """Reads the metrics of an evaluation.

    Args:
        evaluation_uri: folder of a ModelEvaluation artifact.
        baseline: reads those of the last blessed model instead of the candidate's.

    Returns:
        ``{"overall": {"auc": …}, "slices": {"length_bucket:0-9": {"auc": …}}}``. Slices by two
        features are named ``length_bucket:0-9,density_bucket:1-4``; a metric that is undefined
        on a slice is None. Without a baseline model, its overall metrics are empty.
    """
    overall: Metrics = {}
    slices: dict[str, Metrics] = {}
    for record in model_eval_lib.load_metrics(str(evaluation_uri)):
        values = _values(record, baseline=baseline)
        if not record.slice_key.single_slice_keys:
            overall = values
        elif values:
            slices[slice_name(record.slice_key)] = values
    return {"overall": overall, "slices": dict(sorted(slices.items(), key=_slice_order))}


def read_refusals(evaluation_uri: str | Path) -> list[str]:
    """Returns a sentence for each threshold that the model missed; empty if it missed none."""
    result = model_eval_lib.load_validation_result(str(evaluation_uri))
    if result is None or result.validation_ok:
        return []
    metrics = read_metrics(evaluation_uri)
    sentences: list[str] = []
    validations = {slice_name(one.slice_key): one for one in result.metric_validations_per_slice}
    for name, validation in sorted(validations.items(), key=_slice_order):
        values = (metrics["slices"].get(name) if name else metrics["overall"]) or {}
        where = f"in {name}" if name else "overall"
        count = values.get(MetricName.EXAMPLE_COUNT.value)
        size = f" ({count:,} examples)" if count is not None else ""
        sentences.extend(
            _sentence(failure, f"{where}{size}", values) for failure in validation.failures
        )
    for spec in result.missing_slices:
        keys = ", ".join(spec.feature_keys)
        sentences.append(f"no example to slice by {keys}" if keys else "there are no examples")
    # What is undefined misses its bounds and cannot be compared either.
    return list(dict.fromkeys(sentences))


def slice_name(key: metrics_for_slice_pb2.SliceKey) -> str:
    """Names a slice, ``length_bucket:0-9,density_bucket:1-4``; the whole split is ``""``."""
    parts = [(one.column, _slice_value(one)) for one in key.single_slice_keys]
    return ",".join(f"{column}:{value}" for column, value in reversed(parts))


def _values(record: metrics_for_slice_pb2.MetricsForSlice, *, baseline: bool) -> Metrics:
    values: Metrics = {}
    for one in record.metric_keys_and_values:
        name, is_baseline = one.key.name, one.key.model_name == BASELINE_KEY
        if name in REPORTED and not one.key.is_diff and is_baseline == baseline:
            number = one.value.double_value.value
            if math.isnan(number):
                values[name] = None
            else:
                whole = name in (MetricName.EXAMPLE_COUNT.value, INVALID_SCORES)
                values[name] = int(number) if whole else number
    return {name: values[name] for name in REPORTED if name in values}


def _sentence(failure: validation_result_pb2.ValidationFailure, where: str, values: Metrics) -> str:
    name = failure.metric_key.name.removeprefix(CHECKED_PREFIX)
    value = failure.metric_value.double_value.value
    threshold = failure.metric_threshold
    if failure.message.strip():
        return f"{name} {where}: {failure.message.strip()}"
    if math.isnan(value):
        if threshold.HasField("change_threshold") and values.get(name) is not None:
            return f"{name} {where} cannot be compared: it is undefined for the last blessed model"
        return f"{name} {where} is undefined"
    if threshold.HasField("change_threshold"):
        higher = config_pb2.MetricDirection.HIGHER_IS_BETTER
        verb = "fell" if threshold.change_threshold.direction == higher else "rose"
        change, limit = _figures(abs(value), abs(threshold.change_threshold.absolute.value))
        return (
            f"{name} {where} {verb} by {change} against the last blessed model, more than {limit}"
        )
    bounds = threshold.value_threshold
    if name == INVALID_SCORES:
        return f"{_figure(value)} scores {where} are no probabilities"
    if bounds.HasField("lower_bound") and value < bounds.lower_bound.value:
        found, limit = _figures(value, bounds.lower_bound.value)
        return f"{name} {found} {where} is below {limit}"
    found, limit = _figures(value, bounds.upper_bound.value)
    return f"{name} {found} {where} is above {limit}"


def _figures(value: float, limit: float) -> tuple[str, str]:
    """Writes two numbers that differ with as many digits as it takes to see it."""
    digits = 4
    while (texts := (_figure(value, digits), _figure(limit, digits)))[0] == texts[1]:
        digits += 1
    return texts


def _figure(value: float, digits: int = 4) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.{digits}g}"


def _slice_value(key: metrics_for_slice_pb2.SingleSliceKey) -> str:
    if key.HasField("bytes_value"):
        return key.bytes_value.decode("utf-8")
    return str(key.int64_value if key.HasField("int64_value") else key.float_value)


def _slice_order(item: tuple[str, Any]) -> Any:
    """Orders slices as their buckets are, the whole split first."""
    parts = [part.partition(":")[::2] for part in item[0].split(",") if part]
    return (
        len(parts),
        [column for column, _ in parts],
        [int("".join(c for c in value.split("-")[0] if c.isdigit()) or 0) for _, value in parts],
    )
