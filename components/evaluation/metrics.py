"""TFMA metrics of a ranker: one pass over scores gives all of them, for every slice.

TFMA pays some Python for each example, slice and computation. All metrics here are results of
one computation, which takes arrays as gladly as single examples, so that the extractors of
:mod:`components.evaluation.extractors` can hand it a whole batch of a slice at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from components.evaluation.accumulator import ScoreAccumulator, ScoreMetrics

USER_HASH = "user_hash"
REPORTED = tuple(field.name for field in dataclasses.fields(ScoreMetrics))
INVALID_SCORES = "invalid_scores"
CHECKED_PREFIX = "checked_"

_Input = tuple[np.ndarray, np.ndarray, np.ndarray | None]


class RankingMetric(metric_types.Metric):
    """One of the metrics of :class:`components.evaluation.accumulator.ScoreMetrics`.

    Args:
        name: name of the metric, which is also its key in the results.
        source_hash: hash of the code; it changes nothing but the cache entry of an evaluation.
    """

    def __init__(self, name: str, source_hash: str | None = None) -> None:
        _known(name)
        super().__init__(_score_computations, name=name, source_hash=source_hash)


class CheckedRankingMetric(metric_types.Metric):
    """A metric as thresholds should see it in a slice.

    It is the metric itself where the slice is large enough and the metric is defined on it, and
    ``neutral`` where it is not: TFMA would refuse a model for one small slice, or for one with
    positives only, and its own ``min_slice_size`` would drop such slices from the report too.
    A metric that is undefined because the model gave no probabilities is not excused.

    Args:
        metric: name of the metric.
        min_slice_size: examples below which a slice is excused.
        neutral: a value that the thresholds accept.
        name: key in the results, ``checked_<metric>``.
    """

    def __init__(
        self, metric: str, min_slice_size: int, neutral: float, name: str | None = None
    ) -> None:
        _known(metric)
        super().__init__(
            _checked_computations,
            name=name or CHECKED_PREFIX + metric,
            metric=metric,
            min_slice_size=min_slice_size,
            neutral=neutral,
        )


def _known(name: str) -> None:
    if name not in REPORTED:
        raise ValueError(f"metric {name!r}: {', '.join(REPORTED)} are accepted")


def _score_computations(
    name: str | None = None,
    source_hash: str | None = None,
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> metric_types.MetricComputations:
    del name, source_hash
    computations: metric_types.MetricComputations = []
    for model_name in model_names or [""]:
        keys = {one: metric_types.MetricKey(one, model_name=model_name) for one in REPORTED}
        computations.append(
            metric_types.MetricComputation(
                keys=list(keys.values()),
                preprocessors=[_ScoresPreprocessor(model_name, _prediction_key(eval_config))],
                combiner=_ScoreCombineFn(keys),
            )
        )
    return computations


def _checked_computations(
    metric: str,
    min_slice_size: int,
    neutral: float,
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> metric_types.MetricComputations:
    computations = _score_computations(eval_config=eval_config, model_names=model_names)
    for model_name in model_names or [""]:
        key = metric_types.MetricKey(name, model_name=model_name)

        def result(
            metrics: dict[metric_types.MetricKey, Any],
            key: metric_types.MetricKey = key,
            model_name: str = model_name,
        ) -> dict[metric_types.MetricKey, float]:
            def of(one: str) -> float:
                return float(metrics[metric_types.MetricKey(one, model_name=model_name)])

            value = of(metric)
            undefined = math.isnan(value) and of(INVALID_SCORES) == 0
            excused = undefined or of("example_count") < min_slice_size
            return {key: neutral if excused else value}

        computations.append(metric_types.DerivedMetricComputation(keys=[key], result=result))
    return computations


def _prediction_key(eval_config: config_pb2.EvalConfig | None) -> str:
    specs = list(eval_config.model_specs) if eval_config is not None else []
    return specs[0].prediction_key if specs else ""


class _ScoresPreprocessor(metric_types.Preprocessor):
    """Takes labels, scores and users of one model out of an extract."""

    def __init__(self, model_name: str, prediction_key: str) -> None:
        super().__init__(name="scores", model_name=model_name, prediction_key=prediction_key)
        self._model_name = model_name
        self._prediction_key = prediction_key

    def process(self, extracts: dict[str, Any]) -> Iterator[_Input]:
        labels, scores = extracts[constants.LABELS_KEY], extracts[constants.PREDICTIONS_KEY]
        if self._model_name:
            scores = scores[self._model_name]
            labels = labels[self._model_name] if isinstance(labels, dict) else labels
        if isinstance(scores, dict):
            scores = scores[self._prediction_key]
        yield labels, scores, extracts.get(constants.FEATURES_KEY, {}).get(USER_HASH)


class _ScoreCombineFn(beam.CombineFn):
    """Collects scores in a :class:`ScoreAccumulator` and returns the metrics by key."""

    def __init__(self, keys: dict[str, metric_types.MetricKey]) -> None:
        self._keys = keys

    def create_accumulator(self) -> ScoreAccumulator:
        return ScoreAccumulator()

    def add_input(self, accumulator: ScoreAccumulator, element: _Input) -> ScoreAccumulator:
        accumulator.add(*element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[ScoreAccumulator]) -> ScoreAccumulator:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def compact(self, accumulator: ScoreAccumulator) -> ScoreAccumulator:
        accumulator.compact()
        return accumulator

    def extract_output(
        self, accumulator: ScoreAccumulator
    ) -> dict[metric_types.MetricKey, float | int]:
        values = dataclasses.asdict(accumulator.result())
        return {key: values[name] for name, key in self._keys.items()}
