from __future__ import annotations

import pytest

from components.config import Bounds, EvaluationConfig, MetricName, PushConfig
from schemas.loading import ConfigError, build, to_plain


def test_config_reads_back_what_it_writes() -> None:
    config = EvaluationConfig(
        thresholds={
            MetricName.AUC: Bounds(min=0.7),
            MetricName.CALIBRATION: Bounds(min=0.8, max=1.2),
        },
        max_worsening={MetricName.LOG_LOSS: 0.01},
    )

    plain = to_plain(config)

    assert plain["thresholds"] == {
        "auc": {"min": 0.7, "max": None},
        "calibration": {"min": 0.8, "max": 1.2},
    }
    assert build(EvaluationConfig, plain, where="evaluation") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"thresholds": {"AUC": {"min": 0.5}}}, "thresholds.AUC"),
        ({"thresholds": {"auc": {}}}, "give min, max or both"),
        ({"thresholds": {"auc": {"min": 0.9, "max": 0.1}}}, "min 0.9 is above max 0.1"),
        ({"thresholds": {"auc": {"minimum": 0.9}}}, "unknown key"),
        ({"thresholds": {"auc": {"min": float("nan")}}}, "found NaN"),
        ({"thresholds": {"auc": {"min": 55}}}, "thresholds.auc: 0 to 1 can be reached"),
        ({"slice_thresholds": {"label_mean": {"max": -0.1}}}, "slice_thresholds.label_mean: 0"),
        ({"thresholds": {"log_loss": {"max": -1}}}, "thresholds.log_loss: 0 to inf can be reached"),
        ({"min_slice_size": 0}, "at least 1"),
        ({"max_worsening": {"calibration": 0.1}}, "auc, gauc, log_loss"),
        ({"slice_max_worsening": {"auc": -0.1}}, "at least 0"),
        ({"max_worsening": {"auc": 1}}, "max_worsening.auc 1.0: below 1 is accepted"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(EvaluationConfig, values, where="evaluation")

    assert message in str(error.value)


def test_bounds_at_the_ends_of_a_metric_are_accepted() -> None:
    bounds = {"auc": {"min": 1, "max": 1}, "log_loss": {"max": 0}, "calibration": {"min": 5}}
    values = {"thresholds": bounds, "max_worsening": {"auc": 0.99, "log_loss": 5}}

    assert len(build(EvaluationConfig, values, where="evaluation").thresholds) == 3


@pytest.mark.parametrize("destination", ["", " ", "gs://bucket/serving"])
def test_a_destination_is_a_folder(destination: str) -> None:
    with pytest.raises(ConfigError, match="folder"):
        build(PushConfig, {"destination": destination}, where="push")
