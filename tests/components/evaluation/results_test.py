"""Evaluations by the stock Evaluator on tiny SavedModels, from configuration to refusal."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.evaluator import executor as evaluator
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.config import Bounds, EvaluationConfig, MetricName
from components.evaluation import results
from components.evaluation.eval_config import EXTRACTORS_MODULE, build_eval_config
from models import metrics

RUNNER = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=unused",
]
# One slice a model is good at, one it is bad at, one too small to judge, one with one class.
ROWS = {"0-9": 300, "10-19": 300, "20-49": 8, "50+": 120}


def _columns() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    rows = sum(ROWS.values())
    bucket = np.repeat(list(ROWS), list(ROWS.values()))
    label = random.integers(0, 2, rows)
    label[bucket == "50+"] = 0
    good = np.clip(0.3 * label + 0.7 * random.random(rows), 0, 1)
    score = np.where(bucket == "10-19", 1 - good, good)
    score = np.where(bucket == "20-49", 1 - label, score)
    return {
        "label": label,
        "user_id": random.integers(0, 40, rows),
        "length_bucket": bucket,
        "density_bucket": np.where(random.random(rows) < 0.5, "1-4", "5+"),
        "score": score.astype(np.float32).round(2),
        "better": good.astype(np.float32),
        "broken": np.where(np.arange(rows) == 7, np.nan, score).astype(np.float32),
    }


def _save_model(folder: Path, feature: str) -> None:
    """Saves a model whose prediction is a feature of the example."""

    class Copy(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def score(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
            spec = {feature: tf.io.FixedLenFeature([], tf.float32)}
            return {"score": tf.io.parse_example(examples, spec)[feature]}

    module = Copy()
    tf.saved_model.save(
        module, str(folder / "Format-Serving"), signatures={"serving_default": module.score}
    )


class Evaluation:
    """Runs the stock Evaluator on models that copy a feature of the examples."""

    def __init__(self, folder: Path, make_artifact: Callable[..., Any]) -> None:
        self.columns = _columns()
        self._folder = folder
        self._make = make_artifact
        self._names = (f"run{number}" for number in itertools.count())

    def run(
        self,
        config: EvaluationConfig,
        model: str = "score",
        baseline: str | None = None,
        split: str = "test",
    ) -> tuple[Path, bool]:
        """Returns the folder of the evaluation and whether the model was blessed."""
        run = self._folder / next(self._names)
        inputs = {
            "examples": [
                self._make(standard_artifacts.Examples, self._folder / "examples", [split])
            ],
            "model": [self._model(model)],
        }
        if baseline is not None:
            inputs["baseline_model"] = [self._model(baseline)]
        blessing = self._make(standard_artifacts.ModelBlessing, run / "blessing")
        outputs = {
            "evaluation": [self._make(standard_artifacts.ModelEvaluation, run / "evaluation")],
            "blessing": [blessing],
        }
        context = evaluator.Executor.Context(beam_pipeline_args=RUNNER)
        evaluator.Executor(context).Do(
            inputs,
            outputs,
            {
                "eval_config": proto_utils.proto_to_json(build_eval_config(config)),
                "example_splits": json_utils.dumps([split]),
                "module_path": EXTRACTORS_MODULE,
                "fairness_indicator_thresholds": "null",
            },
        )
        return run / "evaluation", blessing.get_int_custom_property("blessed") == 1

    def _model(self, feature: str) -> Any:
        folder = self._folder / f"model_{feature}"
        if not folder.exists():
            _save_model(folder, feature)
        return self._make(standard_artifacts.Model, folder)


@pytest.fixture(scope="module")
def evaluation(
    tmp_path_factory: pytest.TempPathFactory,
    write_split: Callable[..., None],
    make_artifact: Callable[..., Any],
) -> Evaluation:
    folder = tmp_path_factory.mktemp("evaluation")
    built = Evaluation(folder, make_artifact)
    columns = {name: values.tolist() for name, values in built.columns.items()}
    columns["history_item_id"] = [list(range(row % 4)) for row in range(sum(ROWS.values()))]
    write_split(folder / "examples", "test", columns)
    (folder / "examples" / "Split-nothing").mkdir()
    with tf.io.TFRecordWriter(str(folder / "examples" / "Split-nothing" / "examples")):
        pass
    return built


def _expected(columns: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    label, score, user = (columns[name][rows] for name in ("label", "score", "user_id"))
    values = {
        "auc": metrics.auc(label, score),
        "auc_error_bound": 0.0,
        "gauc": metrics.gauc(label, score, user),
        "log_loss": metrics.log_loss(label, score),
        "calibration": metrics.calibration(label, score),
        "example_count": len(label),
        "label_mean": label.mean(),
        "invalid_scores": 0,
    }
    return {
        name: None if np.isnan(value) else pytest.approx(value, rel=1e-6)
        for name, value in values.items()
    }


def test_a_bad_slice_refuses_a_model_a_small_or_one_class_slice_does_not(
    evaluation: Evaluation,
) -> None:
    config = EvaluationConfig(
        thresholds={MetricName.AUC: Bounds(min=0.1), MetricName.CALIBRATION: Bounds(max=0.5)},
        slice_thresholds={MetricName.AUC: Bounds(min=0.4)},
        min_slice_size=100,
    )
    columns = evaluation.columns

    uri, blessed = evaluation.run(config)

    assert not blessed
    read = results.read_metrics(uri)
    everything = np.ones(sum(ROWS.values()), bool)
    assert read["overall"] == _expected(columns, everything)
    assert list(read["slices"])[:6] == [
        "density_bucket:1-4",
        "density_bucket:5+",
        *(f"length_bucket:{name}" for name in ROWS),
    ]
    for length, density in itertools.product(ROWS, ("1-4", "5+")):
        in_length = columns["length_bucket"] == length
        in_density = columns["density_bucket"] == density
        name = f"length_bucket:{length}"
        assert read["slices"][name] == _expected(columns, in_length)
        name = f"{name},density_bucket:{density}"
        assert read["slices"][name] == _expected(columns, in_length & in_density)
    assert len(read["slices"]) == 4 + 2 + 8
    calibration, bad = read["overall"]["calibration"], read["slices"]["length_bucket:10-19"]["auc"]
    assert results.read_refusals(uri) == [
        f"calibration {calibration:.4g} overall (728 examples) is above 0.5",
        f"auc {bad:.4g} in length_bucket:10-19 (300 examples) is below 0.4",
    ]


def test_a_worse_model_than_the_last_blessed_one_is_refused(evaluation: Evaluation) -> None:
    config = EvaluationConfig(
        thresholds={},
        slice_thresholds={},
        min_slice_size=100,
        max_worsening={MetricName.AUC: 0.005, MetricName.LOG_LOSS: 5.0},
        slice_max_worsening={MetricName.AUC: 0.01},
    )

    uri, blessed = evaluation.run(config, baseline="better")

    assert not blessed
    candidate = results.read_metrics(uri)
    baseline = results.read_metrics(uri, baseline=True)
    label, better = evaluation.columns["label"], evaluation.columns["better"]
    assert baseline["overall"]["auc"] == pytest.approx(metrics.auc(label, better))
    fall = baseline["overall"]["auc"] - candidate["overall"]["auc"]
    refusals = results.read_refusals(uri)
    assert refusals[0] == (
        f"auc overall (728 examples) fell by {fall:.4g} against the last blessed model, "
        "more than 0.005"
    )
    assert [refusal.split(" (")[0] for refusal in refusals[1:]] == [
        "auc in density_bucket:1-4",
        "auc in density_bucket:5+",
        "auc in length_bucket:10-19",
    ]


def test_without_a_blessed_model_there_is_nothing_to_fall_behind(evaluation: Evaluation) -> None:
    config = EvaluationConfig(
        thresholds={}, slice_thresholds={}, max_worsening={MetricName.AUC: 0.0}
    )

    uri, blessed = evaluation.run(config)

    assert blessed
    assert results.read_refusals(uri) == []
    assert results.read_metrics(uri, baseline=True) == {"overall": {}, "slices": {}}


def test_a_baseline_that_cannot_score_is_what_a_refusal_names(evaluation: Evaluation) -> None:
    config = EvaluationConfig(
        thresholds={},
        slice_thresholds={},
        min_slice_size=100,
        max_worsening={MetricName.AUC: 0.005},
        slice_max_worsening={MetricName.AUC: 0.005},
    )

    uri, blessed = evaluation.run(config, model="better", baseline="broken")

    assert not blessed
    without = "cannot be compared: it is undefined for the last blessed model"
    assert results.read_refusals(uri)[0] == f"auc overall (728 examples) {without}"
    assert f"auc in length_bucket:0-9 (300 examples) {without}" in results.read_refusals(uri)


def test_a_near_miss_is_told_apart_from_its_bound(evaluation: Evaluation) -> None:
    auc = metrics.auc(evaluation.columns["label"], evaluation.columns["score"])
    bound = round(auc + 5e-6, 5)
    config = EvaluationConfig(
        thresholds={MetricName.AUC: Bounds(min=bound)}, slice_thresholds={}, max_worsening={}
    )

    uri, blessed = evaluation.run(config)

    assert not blessed
    [refusal] = results.read_refusals(uri)
    found, _, limit = refusal.removeprefix("auc ").partition(" overall (728 examples) is below ")
    assert float(limit) == pytest.approx(bound, abs=1e-6)
    assert auc - 1e-5 < float(found) < float(limit)


@pytest.mark.parametrize(
    ("value", "limit", "texts"),
    [
        (0.54997, 0.55, ("0.54997", "0.55")),
        (0.7, 0.55, ("0.7", "0.55")),
        (999.0, 1000.0, ("999", "1,000")),
        (0.0050000001, 0.005, ("0.0050000001", "0.005")),
        (0.8, float("inf"), ("0.8", "inf")),
    ],
)
def test_figures_have_the_digits_that_tell_them_apart(
    value: float, limit: float, texts: tuple[str, str]
) -> None:
    assert results._figures(value, limit) == texts


@pytest.mark.parametrize("baseline", [None, "score"])
def test_scores_that_are_no_probabilities_refuse_a_model(
    evaluation: Evaluation, baseline: str | None
) -> None:
    config = EvaluationConfig(
        thresholds={MetricName.AUC: Bounds(min=0.0)},
        slice_thresholds={MetricName.AUC: Bounds(min=0.0)},
        min_slice_size=100,
        max_worsening={MetricName.AUC: 0.005},
        slice_max_worsening={MetricName.AUC: 0.5},
    )

    uri, blessed = evaluation.run(config, model="broken", baseline=baseline)

    assert not blessed
    refusals = results.read_refusals(uri)
    assert "1 scores overall (728 examples) are no probabilities" in refusals
    assert refusals.count("auc overall (728 examples) is undefined") == 1
    assert refusals.count("auc in length_bucket:0-9 (300 examples) is undefined") == 1
    assert not any("10-19" in refusal for refusal in refusals)


def test_an_empty_split_blesses_nothing(evaluation: Evaluation) -> None:
    config = EvaluationConfig(slice_thresholds={MetricName.AUC: Bounds(min=0.0)})

    uri, blessed = evaluation.run(config, split="nothing")

    assert not blessed
    assert results.read_metrics(uri) == {"overall": {}, "slices": {}}
    assert results.read_refusals(uri) == [
        "there are no examples",
        "no example to slice by length_bucket",
        "no example to slice by density_bucket",
    ]
