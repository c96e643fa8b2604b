"""``tuner_fn`` for the TFX Tuner: trials are trainings of ours, their score the validation AUC.

It reads what ``run_fn`` reads of ``fn_args.custom_config``, and

- ``tune``: JSON text of the ``tune`` section;
- ``tune_folder``: the same folder for the same search, where KerasTuner keeps its state.

A search that was killed goes on from there, and a trial from its own checkpoints.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
import tensorflow as tf
from keras_tuner.src import utils as keras_tuner_utils
from keras_tuner.src.engine.base_tuner import BaseTuner
from keras_tuner.src.engine.trial import TrialStatus

from models.checkpoints import CheckpointError
from models.plan import CUSTOM_CONFIG_KEY, RunConfig, read_run_config
from models.progress_lines import say
from models.trainer import TrainingInputs, determinism, make_strategy
from models.training import TrainingError
from models.training_checkpoints import TrainingCheckpoints
from models.tuning.config import Algorithm, TuneConfig
from models.tuning.space import make_space, read_values
from schemas.loading import build, set_keys
from schemas.writing import write_text

TUNE_KEY = "tune"
TUNE_FOLDER_KEY = "tune_folder"
OBJECTIVE = "auc"
_PROJECT = "search"

logger = logging.getLogger(__name__)


def _save_json(path: str, value: Any) -> str:
    text = json.dumps(value)
    write_text(Path(path), text)
    return text


# KerasTuner's own empties the file first: a full disk or a kill would end the search for good.
keras_tuner_utils.save_json = _save_json


class TunerFnResult(NamedTuple):
    """What the TFX Tuner asks of a ``tuner_fn``.

    Attributes:
        tuner: its ``search`` is called.
        fit_kwargs: arguments of that.
    """

    tuner: BaseTuner
    fit_kwargs: dict[str, Any]


def tuner_fn(fn_args: Any) -> TunerFnResult:
    """Makes the tuner; called by the TFX Tuner.

    Args:
        fn_args: ``tfx.components.FnArgs``.
    """
    custom_config = fn_args.custom_config
    tune = build(TuneConfig, json.loads(custom_config[TUNE_KEY]), where="tune")
    inputs = TrainingInputs.read(fn_args)
    kind = {
        Algorithm.BAYESIAN: keras_tuner.oracles.BayesianOptimizationOracle,
        Algorithm.RANDOM: keras_tuner.oracles.RandomSearchOracle,
    }[tune.algorithm]
    oracle = kind(
        objective=keras_tuner.Objective(OBJECTIVE, "max"),
        max_trials=tune.trials,
        hyperparameters=make_space(tune, inputs.config.plain),
        allow_new_entries=False,
        tune_new_entries=False,
        seed=tune.seed,
    )
    tuner = RankerTuner(oracle, inputs, tune, custom_config[TUNE_FOLDER_KEY])
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class RankerTuner(BaseTuner):
    """Trains a ranker for each trial.

    It builds on KerasTuner's base class, which knows no Keras model: rankers are of Keras 2 and
    KerasTuner imports Keras 3.

    Args:
        oracle: chooses the values.
        inputs: what every trial reads.
        tune: the ``tune`` section.
        folder: for the state of the search.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        inputs: TrainingInputs,
        tune: TuneConfig,
        folder: str,
    ) -> None:
        super().__init__(oracle, directory=folder, project_name=_PROJECT)
        self._inputs = inputs
        self._tune = tune
        self._folder = folder

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains with the values of a trial and returns the validation AUC of its best epoch.

        Raises:
            keras_tuner.errors.FailedTrialError: these values cannot be trained; the search goes on.
            keras_tuner.errors.FatalError: no trial could be.
        """
        began = time.monotonic()
        values = read_values(self._tune, trial.hyperparameters.values)
        folder = os.path.join(self._folder, f"trial_{trial.trial_id}")
        try:
            auc = self._train(values, folder)
        except (CheckpointError, OSError) as error:
            raise keras_tuner.errors.FatalError(f"trial {trial.trial_id}: {error}") from error
        except Exception as error:
            logger.exception("trial %s", trial.trial_id)
            self._say(trial, f"failed: {type(error).__name__}: {error}", values)
            # It is not tried again.
            shutil.rmtree(folder, ignore_errors=True)
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        finally:
            tf.keras.backend.clear_session()
            gc.collect()
        shutil.rmtree(folder, ignore_errors=True)
        best = max([auc, *self.scores])
        self._say(
            trial,
            f"AUC {auc:.4f} (best {best:.4f}), {time.monotonic() - began:.0f} s",
            values,
        )
        return {OBJECTIVE: auc}

    @property
    def scores(self) -> list[float]:
        """Validation AUC of the trials that have been trained; KerasTuner lists the others too."""
        return [
            float(trial.score)
            for trial in self.oracle.trials.values()
            if trial.status == TrialStatus.COMPLETED
        ]

    def on_search_end(self) -> None:
        """Refuses a search without a single model."""
        if not self.scores:
            raise TrainingError(f"none of the {len(self.oracle.trials)} trials could be trained")

    def _train(self, values: dict[str, Any], folder: str) -> float:
        config = trial_config(self._inputs.config, values)
        inputs = dataclasses.replace(self._inputs, config=config)
        with determinism(config.train.deterministic):
            checkpoints = TrainingCheckpoints(os.path.join(folder, "checkpoints"), config.plain)
            result = inputs.fit(inputs.make_factory(make_strategy()), folder, checkpoints)
        return result.epochs[result.chosen_epoch - 1].validation[OBJECTIVE]

    def _say(self, trial: Any, outcome: str, values: dict[str, Any]) -> None:
        chosen = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
        say(f"trial {int(trial.trial_id) + 1}/{self._tune.trials}: {outcome}; {chosen}")


def trial_config(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """Returns the configuration of a trial.

    The refit is left out: the score is of the model that validation chose.

    Raises:
        ConfigError: the values cannot be used together.
    """
    plain = set_keys(config.plain, {**values, "train.refit": False})
    return read_run_config({CUSTOM_CONFIG_KEY: json.dumps(plain)})


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
