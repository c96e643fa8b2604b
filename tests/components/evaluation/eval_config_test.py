from __future__ import annotations

import json

import pytest
from tensorflow_model_analysis.metrics import metric_specs

from components.config import Bounds, EvaluationConfig, MetricName
from components.evaluation.eval_config import build_eval_config


def _thresholds(config: EvaluationConfig) -> dict[tuple[str, bool], list[tuple[list[str], str]]]:
    built = build_eval_config(config)
    found = metric_specs.metric_thresholds_from_metrics_specs(built.metrics_specs, built)
    return {
        (key.name, key.is_diff): [(list(spec.feature_keys), str(one)) for spec, one in pairs]
        for key, pairs in found.items()
    }


def test_slices_and_model_are_the_contract_s() -> None:
    built = build_eval_config(EvaluationConfig())

    assert [list(spec.feature_keys) for spec in built.slicing_specs] == [
        [],
        ["length_bucket"],
        ["density_bucket"],
        ["length_bucket", "density_bucket"],
    ]
    model = built.model_specs[0]
    assert (model.signature_name, model.label_key, model.prediction_key) == (
        "serving_default",
        "label",
        "score",
    )


def test_without_thresholds_scores_must_still_be_probabilities() -> None:
    config = EvaluationConfig(thresholds={}, slice_thresholds={}, max_worsening={})

    found = _thresholds(config)

    assert list(found) == [("invalid_scores", False)]
    assert found["invalid_scores", False][0][0] == []


def test_no_threshold_applies_to_every_slice() -> None:
    config = EvaluationConfig(
        thresholds={MetricName.AUC: Bounds(min=0.7)},
        slice_thresholds={MetricName.AUC: Bounds(min=0.6), MetricName.LOG_LOSS: Bounds(max=0.7)},
        max_worsening={MetricName.AUC: 0.01},
        slice_max_worsening={MetricName.LOG_LOSS: 0.02},
    )

    found = _thresholds(config)

    overall, by_bucket = [[]], [["length_bucket"], ["density_bucket"]]
    slices = {key: [keys for keys, _ in pairs] for key, pairs in found.items()}
    assert slices == {
        ("invalid_scores", False): overall,
        ("auc", False): overall,
        ("auc", True): overall,
        ("checked_auc", False): by_bucket,
        ("checked_log_loss", False): by_bucket,
        ("checked_log_loss", True): by_bucket,
    }
    assert "value: -0.01" in found["auc", True][0][1]
    assert "HIGHER_IS_BETTER" in found["auc", True][0][1]
    assert "value: 0.02" in found["checked_log_loss", True][0][1]
    assert "LOWER_IS_BETTER" in found["checked_log_loss", True][0][1]


def test_an_edit_of_the_code_is_another_configuration() -> None:
    one, same, other = (
        build_eval_config(EvaluationConfig(), source_hash=source) for source in ("a", "a", "b")
    )

    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("bounds", "neutral"),
    [(Bounds(min=0.6), 0.6), (Bounds(max=0.7), 0.7), (Bounds(min=0.8, max=1.2), 0.8)],
)
def test_an_excused_slice_gets_a_value_that_is_accepted(bounds: Bounds, neutral: float) -> None:
    config = EvaluationConfig(slice_thresholds={MetricName.CALIBRATION: bounds})

    built = build_eval_config(config)

    checked = next(
        metric
        for metric in built.metrics_specs[0].metrics
        if metric.class_name == "CheckedRankingMetric"
    )
    assert json.loads(checked.config)["neutral"] == neutral
