from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from components.evaluation.metrics import CheckedRankingMetric, RankingMetric

CONFIG = config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec(prediction_key="score")])


def _extracts(labels: list[int], scores: list[float], model: str = "") -> dict[str, Any]:
    predictions: Any = {"score": np.array(scores, np.float32)}
    return {
        constants.LABELS_KEY: np.array(labels),
        constants.PREDICTIONS_KEY: {model: predictions} if model else predictions,
    }


def _evaluate(
    metric: metric_types.Metric, parts: list[dict[str, Any]], model: str = ""
) -> dict[str, float]:
    """Does what TFMA does with a metric: preprocess, add, merge, extract, derive."""
    computations = metric.computations(eval_config=CONFIG, model_names=[model])
    first = computations[0]
    accumulators = []
    for part in parts:
        accumulator = first.combiner.create_accumulator()
        for inputs in first.preprocessors[0].process(part):
            accumulator = first.combiner.add_input(accumulator, inputs)
        accumulators.append(first.combiner.compact(accumulator))
    merged = first.combiner.merge_accumulators(accumulators)
    found = first.combiner.extract_output(merged)
    for derived in computations[1:]:
        found.update(derived.result(found))
    assert all(key.model_name == model for key in found)
    return {key.name: value for key, value in found.items()}


@pytest.mark.parametrize("model", ["", "candidate"])
def test_single_examples_and_batches_give_the_same(model: str) -> None:
    labels, scores = [1, 0, 1, 0, 0], [0.9, 0.9, 0.6, 0.2, 0.7]
    batch = [_extracts(labels, scores, model)]
    singles = [
        _extracts([label], [score], model) for label, score in zip(labels, scores, strict=True)
    ]

    found = _evaluate(RankingMetric("auc"), singles, model)

    assert found == pytest.approx(_evaluate(RankingMetric("auc"), batch, model), nan_ok=True)
    assert found["auc"] == pytest.approx((0.5 + 1 + 1 + 0 + 1 + 0) / 6)
    assert found["example_count"] == 5


def test_all_metrics_share_one_computation() -> None:
    computations = {
        one
        for metric in (
            RankingMetric("auc"),
            RankingMetric("log_loss", source_hash="a"),
            CheckedRankingMetric("auc", 1, 0.5),
        )
        for one in metric.computations(eval_config=CONFIG, model_names=[""])
        if isinstance(one, metric_types.MetricComputation)
    }

    assert len(computations) == 1


@pytest.mark.parametrize(
    ("labels", "scores", "size", "expected"),
    [
        ([1, 0], [0.2, 0.9], 2, 0.0),
        ([1, 0], [0.2, 0.9], 3, 0.7),
        ([1, 1], [0.2, 0.9], 2, 0.7),
        ([1, 0, 0], [0.2, 0.9, math.nan], 2, math.nan),
    ],
    ids=["checked", "too small", "one class", "no probability"],
)
def test_a_slice_is_excused_only_if_it_cannot_be_judged(
    labels: list[int], scores: list[float], size: int, expected: float
) -> None:
    metric = CheckedRankingMetric("auc", min_slice_size=size, neutral=0.7)

    found = _evaluate(metric, [_extracts(labels, scores)])

    assert found["checked_auc"] == pytest.approx(expected, nan_ok=True)
    assert found["auc"] != pytest.approx(0.7)


@pytest.mark.parametrize("name", ["AUC", "roc_auc", ""])
def test_an_unknown_metric_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"auc, .* are accepted"):
        RankingMetric(name)
    with pytest.raises(ValueError, match=r"auc, .* are accepted"):
        CheckedRankingMetric(name, 1, 0.5)
