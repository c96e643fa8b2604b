"""The TFMA configuration of a run: slices, metrics and what a model must reach."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tensorflow_model_analysis.proto import config_pb2

from components.config import HIGHER_IS_BETTER, Bounds, EvaluationConfig, MetricName
from components.evaluation.metrics import (
    CHECKED_PREFIX,
    INVALID_SCORES,
    REPORTED,
    CheckedRankingMetric,
    RankingMetric,
)
from schemas import features

EXTRACTORS_MODULE = "components.evaluation.extractors"
SIGNATURE = "serving_default"
PREDICTION_KEY = "score"
SLICES: tuple[tuple[str, ...], ...] = (
    (),
    (features.LENGTH_BUCKET,),
    (features.DENSITY_BUCKET,),
    (features.LENGTH_BUCKET, features.DENSITY_BUCKET),
)
_CHECKED_SLICES = ((features.LENGTH_BUCKET,), (features.DENSITY_BUCKET,))


def build_eval_config(
    config: EvaluationConfig, *, source_hash: str | None = None
) -> config_pb2.EvalConfig:
    """Builds what the Evaluator is given.

    A plain ``threshold`` of TFMA applies to every slice, so all of ours name their slices. One
    threshold is always there, that every score is a probability: without any, the Evaluator
    blesses nothing.

    Args:
        config: the ``evaluation`` section of a run.
        source_hash: hash of the code of the evaluation. The stock Evaluator has no property for
            it, so it rides on the metrics and keeps an edit from being answered by the cache.

    Returns:
        A configuration for one candidate; the Evaluator itself adds the baseline when there is
        a blessed model, and drops the change thresholds when there is none.
    """
    spec = config_pb2.MetricsSpec()
    for name in REPORTED:
        metric = spec.metrics.add(
            class_name=RankingMetric.__name__,
            module=RankingMetric.__module__,
            config=json.dumps({"name": name, "source_hash": source_hash}),
        )
        metric.per_slice_thresholds.extend(_overall_thresholds(name, config))
    checked = sorted({*config.slice_thresholds, *config.slice_max_worsening})
    for name in checked:
        bounds = config.slice_thresholds.get(name)
        metric = spec.metrics.add(
            class_name=CheckedRankingMetric.__name__,
            module=CheckedRankingMetric.__module__,
            config=json.dumps(
                {
                    "name": CHECKED_PREFIX + name.value,
                    "metric": name.value,
                    "min_slice_size": config.min_slice_size,
                    "neutral": _neutral(bounds),
                }
            ),
        )
        metric.per_slice_thresholds.extend(
            _thresholds(name, bounds, config.slice_max_worsening, _CHECKED_SLICES)
        )
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                signature_name=SIGNATURE,
                label_key=features.LABEL,
                prediction_key=PREDICTION_KEY,
                model_type="tf_generic",
            )
        ],
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=keys) for keys in SLICES],
        metrics_specs=[spec],
    )


def _overall_thresholds(
    name: str, config: EvaluationConfig
) -> list[config_pb2.PerSliceMetricThreshold]:
    if name == INVALID_SCORES:
        return [_threshold([()], value=Bounds(max=0.0))]
    if name not in {one.value for one in MetricName}:
        return []
    metric = MetricName(name)
    return _thresholds(metric, config.thresholds.get(metric), config.max_worsening, ((),))


def _thresholds(
    name: MetricName,
    bounds: Bounds | None,
    max_worsening: Mapping[MetricName, float],
    slices: tuple[tuple[str, ...], ...],
) -> list[config_pb2.PerSliceMetricThreshold]:
    thresholds = []
    if bounds is not None:
        thresholds.append(_threshold(list(slices), value=bounds))
    if name in max_worsening:
        change = config_pb2.GenericChangeThreshold()
        if name in HIGHER_IS_BETTER:
            change.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
            change.absolute.value = -max_worsening[name]
        else:
            change.direction = config_pb2.MetricDirection.LOWER_IS_BETTER
            change.absolute.value = max_worsening[name]
        thresholds.append(_threshold(list(slices), change=change))
    return thresholds


def _threshold(
    slices: list[tuple[str, ...]],
    value: Bounds | None = None,
    change: config_pb2.GenericChangeThreshold | None = None,
) -> config_pb2.PerSliceMetricThreshold:
    result = config_pb2.PerSliceMetricThreshold(
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=keys) for keys in slices]
    )
    if value is not None:
        bounds = result.threshold.value_threshold
        if value.min is not None:
            bounds.lower_bound.value = value.min
        if value.max is not None:
            bounds.upper_bound.value = value.max
    if change is not None:
        result.threshold.change_threshold.CopyFrom(change)
    return result


def _neutral(bounds: Bounds | None) -> float:
    if bounds is None:
        return 0.0
    return bounds.min if bounds.min is not None else float(bounds.max or 0.0)
