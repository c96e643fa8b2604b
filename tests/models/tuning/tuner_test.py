"""Tests of a search, without the trainings themselves."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
import tensorflow as tf
from tfx.components.trainer import fn_args_utils
from tfx.types import artifact_utils, standard_artifacts

from models.fitting import FitResult
from models.inputs import list_files
from models.plan import CUSTOM_CONFIG_KEY, RunConfig, read_run_config
from models.ranker_factory import RankerFactory
from models.training import Epoch, TrainingError
from models.training_checkpoints import TrainingCheckpoints
from models.tuning.config import TuneConfig
from models.tuning.space import make_space
from models.tuning.tuner import (
    OBJECTIVE,
    TUNE_FOLDER_KEY,
    TUNE_KEY,
    RankerTuner,
    trial_config,
    tuner_fn,
)
from schemas.loading import ConfigError, build
from tests.models import fixtures, tiny_training
from tests.models.conftest import TinyRun

pytestmark = pytest.mark.timeout(900)

KEY = "train.learning_rate"
TUNE = {"trials": 2, "seed": 3, "algorithm": "random", "keys": {KEY: {"min": 1e-3, "max": 1e-1}}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyInputs:
    """Stands for :class:`models.trainer.TrainingInputs`."""

    config: RunConfig
    folder: Path
    rates: list[float]
    faults: list[BaseException]

    def make_factory(self, strategy: tf.distribute.Strategy) -> RankerFactory:
        rate = self.config.train.learning_rate
        return tiny_training.make_factory(
            None, {"learning_rate": rate, "max_epochs": 1, "refit": self.config.train.refit}
        )

    def fit(
        self, factory: RankerFactory, run_dir: str, checkpoints: TrainingCheckpoints
    ) -> FitResult:
        self.rates.append(factory.train.learning_rate)
        checkpoints.save({"steps": tf.Variable(1.0)}, {}, where="step 1")
        if self.faults:
            raise self.faults.pop()
        epochs = [make_epoch(0.4), make_epoch(0.5 + factory.train.learning_rate), make_epoch(0.3)]
        return FitResult(
            ranker=None,  # type: ignore[arg-type]
            epochs=epochs,
            chosen_epoch=2,
            refit_epochs=[],
            seconds=1.0,
        )


def make_epoch(auc: float) -> Epoch:
    return Epoch(
        epoch=1, examples=1, loss=0.5, label_mean=0.5, seconds=1.0, examples_per_second=1.0,
        validation={"auc": auc},
    )  # fmt: skip


@pytest.fixture
def inputs(tmp_path: Path) -> TinyInputs:
    plain = json.loads(fixtures.custom_config(fixtures.make_description())[CUSTOM_CONFIG_KEY])
    config = read_run_config({CUSTOM_CONFIG_KEY: json.dumps(plain)})
    return TinyInputs(config=config, folder=tmp_path, rates=[], faults=[])


def make_tuner(inputs: TinyInputs, **changes: Any) -> RankerTuner:
    tune = build(TuneConfig, {**TUNE, **changes}, where="tune")
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        max_trials=tune.trials,
        hyperparameters=make_space(tune, inputs.config.plain),
        allow_new_entries=False,
        tune_new_entries=False,
        seed=tune.seed,
    )
    return RankerTuner(oracle, inputs, tune, str(inputs.folder / "tune"))  # type: ignore[arg-type]


def test_it_reads_what_the_tfx_tuner_hands_over(int_run: TinyRun, tmp_path: Path) -> None:
    graph, examples = standard_artifacts.TransformGraph(), standard_artifacts.Examples()
    graph.uri, examples.uri = int_run.graph, str(tmp_path / "examples")
    examples.split_names = artifact_utils.encode_split_names(["train", "validation"])
    for split in ("train", "validation"):
        (tmp_path / "examples" / f"Split-{split}").mkdir(parents=True)
        for path in list_files([int_run.files[split]], split=split):
            (tmp_path / "examples" / f"Split-{split}" / Path(path).name).symlink_to(path)
    custom_config = {
        **int_run.custom_config,
        TUNE_KEY: json.dumps(TUNE),
        TUNE_FOLDER_KEY: str(tmp_path / "tune"),
    }
    fn_args = fn_args_utils.get_common_fn_args(
        {"transform_graph": [graph], "examples": [examples]},
        {
            "train_args": json.dumps({"splits": ["train"]}),
            "eval_args": json.dumps({"splits": ["validation"]}),
            "custom_config": json.dumps(custom_config),
        },
    )
    tuner = tuner_fn(fn_args).tuner
    inputs = tuner._inputs
    assert len(inputs.vocabularies["item_id"]) == int_run.summary["vocabulary_sizes"]["item_id"]
    assert {Path(path).parent.name for path in inputs.train_files} == {"Split-train"}
    assert tuner.oracle.max_trials == 2


def test_a_search_is_gone_on_with_after_its_end_and_after_a_kill(
    inputs: TinyInputs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        make_tuner(inputs).search()
    lines = [record.message for record in caplog.records if record.message.startswith("trial ")]
    assert len(lines) == 2
    assert lines[1].startswith("trial 2/2: AUC 0.")
    assert f"{KEY}={inputs.rates[1]:.4g}" in lines[1]
    assert len(set(inputs.rates)) == 2
    assert not list((inputs.folder / "tune").glob("trial_*"))
    # Two more, the second of which is killed.
    inputs.faults.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_tuner(inputs, trials=3).search()
    tuner = make_tuner(inputs, trials=3)
    tuner.search()
    assert len(inputs.rates) == 4
    assert inputs.rates[3] == inputs.rates[2]
    assert sorted(tuner.scores) == pytest.approx(sorted(0.5 + rate for rate in inputs.rates[:3]))
    [best] = tuner.oracle.get_best_trials(1)
    assert best.score == max(tuner.scores)


def test_a_trial_that_cannot_be_trained_is_passed_over(
    inputs: TinyInputs, caplog: pytest.LogCaptureFixture
) -> None:
    inputs.faults.append(TrainingError("training: the loss is nan at step 1 of epoch 1"))
    tuner = make_tuner(inputs)
    with caplog.at_level(logging.INFO):
        tuner.search()
    assert "trial 1/2: failed: TrainingError: training: the loss is nan" in caplog.text
    assert len(tuner.scores) == 1
    assert not list((inputs.folder / "tune").glob("trial_*"))


def test_a_search_without_a_model_is_an_error(inputs: TinyInputs) -> None:
    inputs.faults.extend(TrainingError("no") for _ in range(2))
    with pytest.raises(TrainingError, match="none of the 2 trials could be trained"):
        make_tuner(inputs).search()


def test_a_full_disk_ends_the_search(inputs: TinyInputs) -> None:
    inputs.faults.append(OSError(28, "No space left on device"))
    with pytest.raises(keras_tuner.errors.FatalError, match=r"trial 0: .*No space left"):
        make_tuner(inputs).search()
    assert len(inputs.rates) == 1


def test_values_that_do_not_go_together_are_a_configuration_error(inputs: TinyInputs) -> None:
    config = trial_config(inputs.config, {KEY: 0.5})
    assert (config.train.learning_rate, config.train.refit) == (0.5, False)
    with pytest.raises(ConfigError, match="lens: backbone 'din' has no queries"):
        trial_config(inputs.config, {"model.lens": {}})


def test_a_disk_that_is_full_for_the_state_leaves_a_search_to_go_on_with(
    inputs: TinyInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tuner(inputs, trials=1).search()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            make_tuner(inputs, trials=2).search()
    tuner = make_tuner(inputs, trials=2)
    tuner.search()
    assert len(tuner.scores) == 2
    assert not list(inputs.folder.rglob("*.partial"))
