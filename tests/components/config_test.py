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
        ({"min_slice_size": 0}, "at least 1"),
        ({"max_worsening": {"calibration": 0.1}}, "auc, gauc, log_loss"),
        ({"slice_max_worsening": {"auc": -0.1}}, "at least 0"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(EvaluationConfig, values, where="evaluation")

    assert message in str(error.value)


@pytest.mark.parametrize("destination", ["", " ", "gs://bucket/serving"])
def test_a_destination_is_a_folder(destination: str) -> None:
    with pytest.raises(ConfigError, match="folder"):
        build(PushConfig, {"destination": destination}, where="push")
