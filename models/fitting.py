"""Trains until validation stops rising, and goes on from a checkpoint where there is one."""

from __future__ import annotations

import dataclasses
import enum
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.activity import activity
from models.checkpoints import CheckpointError
from models.config import TrainConfig
from models.monitor import TENSORBOARD_FOLDER, TrainingMonitor
from models.progress_lines import say
from models.ranker import Ranker
from models.ranker_factory import RankerFactory
from models.tally import Tally
from models.training import Epoch, TrainingError, TrainingLoop
from models.training_checkpoints import (
    SavedCheckpoint,
    TrainingCheckpoints,
    UnreadableCheckpointError,
)
from models.warm_start import WarmStartReport
from models.workers.group import WorkerGroup
from schemas import features

CHECKPOINT_FOLDER = "checkpoints"

logger = logging.getLogger(__name__)


class Phase(str, enum.Enum):
    """What the epochs of a training are for."""

    CHOOSE = "choose"
    REFIT = "refit"


@dataclass(kw_only=True)
class Progress:
    """Where a training stands.

    Attributes:
        phase: whether the number of epochs is being chosen, or the refit has begun.
        epoch: the epoch that runs or comes next, in this phase; counts from 1.
        tally: what was done of it.
        epochs: finished epochs of choosing.
        best: the best of them; 0 before the first.
        best_checkpoint: name of the checkpoint with the weights after it; empty in that one.
        refit_epochs: finished epochs of the refit.
        seconds: of everything so far.
        warm_start: what was taken from an earlier model, if anything.
    """

    phase: Phase = Phase.CHOOSE
    epoch: int = 1
    tally: Tally = field(default_factory=Tally)
    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_checkpoint: str = ""
    refit_epochs: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    warm_start: WarmStartReport | None = None

    def wants_epoch(self, config: TrainConfig) -> bool:
        """Returns whether another epoch may be better."""
        waited = self.epoch - 1 - self.best
        return self.epoch <= config.max_epochs and waited < config.patience

    def to_plain(self) -> dict[str, Any]:
        """Returns plain values."""
        return {**dataclasses.asdict(self), "phase": self.phase.value}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> Progress:
        """Reads :meth:`to_plain` back."""
        return Progress(
            **{
                **plain,
                "phase": Phase(plain["phase"]),
                "tally": Tally(**plain["tally"]),
                "epochs": [Epoch(**epoch) for epoch in plain["epochs"]],
                "refit_epochs": [Epoch(**epoch) for epoch in plain["refit_epochs"]],
                "warm_start": WarmStartReport.from_plain(plain["warm_start"])
                if plain["warm_start"]
                else None,
            }
        )


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A trained ranker.

    Attributes:
        ranker: with the weights to export.
        epochs: all epochs trained while choosing.
        chosen_epoch: the epoch with the best validation metric.
        refit_epochs: epochs of the refit; empty if there was none.
        seconds: of everything, also before a checkpoint that it went on from.
        resumed_from: the checkpoint that it went on from; empty if there was none.
        warm_start: what was taken from an earlier model, if anything.
    """

    ranker: Ranker
    epochs: list[Epoch]
    chosen_epoch: int
    refit_epochs: list[Epoch]
    seconds: float
    resumed_from: str = ""
    warm_start: WarmStartReport | None = None

    def to_plain(self) -> dict[str, Any]:
        """Returns plain values of all but the ranker."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["ranker"]
        return {
            **fields,
            "epochs": [dataclasses.asdict(epoch) for epoch in self.epochs],
            "refit_epochs": [dataclasses.asdict(epoch) for epoch in self.refit_epochs],
            "warm_start": dataclasses.asdict(self.warm_start) if self.warm_start else None,
        }

    @staticmethod
    def from_plain(plain: dict[str, Any], ranker: Ranker) -> FitResult:
        """Reads :meth:`to_plain` back."""
        report = plain["warm_start"]
        return FitResult(
            **{
                **plain,
                "ranker": ranker,
                "epochs": [Epoch(**epoch) for epoch in plain["epochs"]],
                "refit_epochs": [Epoch(**epoch) for epoch in plain["refit_epochs"]],
                "warm_start": WarmStartReport.from_plain(report) if report else None,
            }
        )


def fit(
    factory: RankerFactory,
    train_files: Sequence[str],
    validation_files: Sequence[str],
    *,
    run_dir: str,
    checkpoints: TrainingCheckpoints | None = None,
    prepare: Callable[[Ranker], WarmStartReport] | None = None,
) -> FitResult:
    """Trains until the validation metric stops rising and returns the best epoch's ranker.

    Args:
        factory: makes rankers.
        train_files: transformed examples to train on.
        validation_files: transformed examples to choose the epoch on.
        run_dir: folder for what TensorBoard shows, and for checkpoints if none are given.
        checkpoints: where to go on from and write to; whoever gives them removes them. Without
            them nothing is gone on from, and none are left.
        prepare: gives a new ranker the weights of an earlier model.
    """
    own = checkpoints is None
    if checkpoints is None:
        checkpoints = TrainingCheckpoints(os.path.join(run_dir, CHECKPOINT_FOLDER), {})
        checkpoints.remove()
    while True:
        try:
            result = _Fit(
                factory, train_files, validation_files, run_dir, checkpoints, prepare
            ).run()
        except UnreadableCheckpointError as error:
            # An older one may be good, and a fresh start is better than none.
            logger.warning("%s; it is removed", error)
            checkpoints.discard(error.path)
            if WorkerGroup(factory.strategy).count > 1:
                # The other workers are further on already, and wait for this one there.
                raise
            continue
        if own:
            checkpoints.remove()
        return result


class _Fit:
    """One call of :func:`fit`."""

    def __init__(
        self,
        factory: RankerFactory,
        train_files: Sequence[str],
        validation_files: Sequence[str],
        run_dir: str,
        checkpoints: TrainingCheckpoints,
        prepare: Callable[[Ranker], WarmStartReport] | None,
    ) -> None:
        self._factory = factory
        self._train_files = list(train_files)
        self._validation_files = list(validation_files)
        self._checkpoints = checkpoints
        self._prepare = prepare
        self._monitor = TrainingMonitor(os.path.join(run_dir, TENSORBOARD_FOLDER))
        self._saved = find_checkpoint(checkpoints)
        self._progress = (
            Progress.from_plain(self._saved.progress) if self._saved is not None else Progress()
        )
        if self._saved is not None and self._progress.best and not self._progress.best_checkpoint:
            self._progress.best_checkpoint = self._saved.path.name
        self._marked = self._last_saved = time.monotonic()

    def run(self) -> FitResult:
        resumed_from = str(self._saved.path) if self._saved is not None else ""
        progress = self._progress
        if self._factory.train.refit:
            if progress.phase is Phase.CHOOSE:
                self._choose()
            ranker = self._refit()
        else:
            ranker = self._choose()
        self._count_time()
        return FitResult(
            ranker=ranker,
            epochs=progress.epochs,
            chosen_epoch=progress.best,
            refit_epochs=progress.refit_epochs,
            seconds=progress.seconds,
            resumed_from=resumed_from,
            warm_start=progress.warm_start,
        )

    def _choose(self) -> Ranker:
        """Trains on the training split; returns the ranker after its best epoch."""
        config, progress = self._factory.train, self._progress
        loop = self._start(self._train_files)
        loop.check_whole(self._validation_files, features.VALIDATION_SPLIT)
        while progress.wants_epoch(config):
            number = progress.epoch
            epoch = self._run_epoch(loop, _title(progress, config))
            validation_started = time.monotonic()
            validation = loop.evaluate(self._validation_files, features.VALIDATION_SPLIT)
            epoch = dataclasses.replace(
                epoch,
                validation=validation,
                validation_seconds=time.monotonic() - validation_started,
            )
            is_better = progress.best == 0 or (
                validation[config.metric.value]
                > progress.epochs[progress.best - 1].validation[config.metric.value]
            )
            progress.epochs.append(epoch)
            self._log_epoch(loop, epoch)
            progress.epoch, progress.tally = number + 1, Tally()
            if is_better:
                progress.best, progress.best_checkpoint = number, ""
            name = self._save(loop)
            if is_better:
                progress.best_checkpoint = name
        logger.info("epoch %d was the best of %d", progress.best, len(progress.epochs))
        best = self._checkpoints.find(progress.best_checkpoint)
        self._checkpoints.restore(best, {"ranker": loop.ranker}, partly=True)
        return loop.ranker

    def _refit(self) -> Ranker:
        """Trains anew on both splits for the chosen number of epochs."""
        progress = self._progress
        if progress.phase is Phase.CHOOSE:
            progress.phase, progress.epoch, progress.tally = Phase.REFIT, 1, Tally()
            logger.info("refit on training and validation split, %d epochs", progress.best)
        loop = self._start([*self._train_files, *self._validation_files])
        while progress.epoch <= progress.best:
            title = f"refit, epoch {progress.epoch}/{progress.best}"
            progress.refit_epochs.append(self._run_epoch(loop, title))
            progress.epoch, progress.tally = progress.epoch + 1, Tally()
            self._save(loop)
        return loop.ranker

    def _start(self, files: Sequence[str]) -> TrainingLoop:
        """Makes a loop, with the weights of the checkpoint if there is one."""
        activity.begin("the ranker and its first weights")
        profile = self._factory.profile
        examples = profile.examples if profile and files == self._train_files else None
        loop = TrainingLoop(self._factory, files, examples=examples, monitor=self._monitor)
        if self._saved is not None:
            self._checkpoints.restore(self._saved, loop.state, partly=False)
            self._saved = None
        elif self._prepare is not None:
            self._progress.warm_start = self._prepare(loop.ranker)
        return loop

    def _run_epoch(self, loop: TrainingLoop, title: str) -> Epoch:
        """Runs the current epoch from where it stands, writing checkpoints on the way."""
        progress = self._progress
        interval = self._factory.train.checkpoint_minutes * 60

        def checkpoint(tally: Tally) -> None:
            progress.tally = dataclasses.replace(tally)
            self._save(loop)

        epoch = loop.run_epoch(
            progress.epoch,
            title,
            tally=progress.tally,
            checkpoint=checkpoint,
            checkpoint_due=lambda: time.monotonic() - self._last_saved >= interval,
        )
        self._monitor.write(
            {"epoch/loss": epoch.loss, "epoch/examples_per_second": epoch.examples_per_second},
            loop.steps,
        )
        return epoch

    def _save(self, loop: TrainingLoop) -> str:
        """Writes a checkpoint of the loop and of the progress."""
        activity.begin("a checkpoint")
        began = time.monotonic()
        progress = self._progress
        where = f"step {progress.tally.steps} of epoch {progress.epoch}"
        if not loop.is_finite():
            raise TrainingError(
                f"training: a weight is no finite number at {where}; look for extreme numbers in "
                f"the features, or lower train.learning_rate (now "
                f"{self._factory.train.learning_rate}); {self._checkpoints.describe_last()}"
            )
        self._count_time()
        name = self._checkpoints.save(
            loop.state,
            progress.to_plain(),
            where=where,
            # The refit begins anew and needs no weights of an epoch.
            pinned={progress.best_checkpoint} - {""} if progress.phase is Phase.CHOOSE else (),
        )
        self._last_saved = time.monotonic()
        logger.info("%s at %s, in %.1f s", name, where, self._last_saved - began)
        return name

    def _count_time(self) -> None:
        now = time.monotonic()
        self._progress.seconds += now - self._marked
        self._marked = now

    def _log_epoch(self, loop: TrainingLoop, epoch: Epoch) -> None:
        logger.info(
            "epoch %d/%d: %d examples in %.0f s (%.0f/s, %.0f tokens/s, %.0f %% padding, %.0f %% "
            "waiting for input), loss %.4f, validation AUC %.4f, log loss %.4f, calibration %.3f, "
            "GAUC %.4f",
            epoch.epoch,
            self._factory.train.max_epochs,
            epoch.examples,
            epoch.seconds,
            epoch.examples_per_second,
            epoch.tokens_per_second,
            100 * epoch.padding_share,
            100 * epoch.input_wait_share,
            epoch.loss,
            epoch.validation["auc"],
            epoch.validation["log_loss"],
            epoch.validation["calibration"],
            epoch.validation["gauc"],
        )
        values = {f"validation/{name}": value for name, value in epoch.validation.items()}
        self._monitor.write(values, loop.steps)


def find_checkpoint(checkpoints: TrainingCheckpoints) -> SavedCheckpoint | None:
    """Returns what to go on from; what cannot lead to an end is removed, with a line.

    That is what belongs to another training, and what has lost the weights of its best epoch.
    """
    try:
        saved = checkpoints.newest()
    except CheckpointError as error:
        say(f"training starts afresh: {error}")
        checkpoints.remove()
        return None
    if saved is not None:
        tally = Tally(**saved.progress["tally"])
        say(
            f"training goes on from {saved.path}: step {tally.steps} of epoch "
            f"{saved.progress['epoch']} ({saved.progress['phase']})"
        )
    return saved


def _title(progress: Progress, config: TrainConfig) -> str:
    title = f"epoch {progress.epoch}/{config.max_epochs}"
    if progress.epochs:
        title += f", val AUC {progress.epochs[-1].validation['auc']:.4f}"
    return title
