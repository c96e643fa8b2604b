"""The training loop: epochs from any position in the data, and exact validation metrics."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models import metrics
from models.activity import activity
from models.config import LearningRateSchedule
from models.inputs import count_records, make_dataset, make_parser, records_per_batch
from models.length_groups import padded_events
from models.monitor import TrainingMonitor
from models.packing import count_events, is_packed, packed_positions, reads_windows
from models.plan import USER_GROUP
from models.progress_lines import progress
from models.ranker import Ranker
from models.ranker_factory import RankerFactory
from models.record_check import find_bad_record, find_cut_file
from models.tally import Tally
from models.workers.group import WorkerGroup
from schemas import features

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_PROGRESS = 2.0


class TrainingError(RuntimeError):
    """Training that cannot give a usable model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did.

    Attributes:
        epoch: counts from 1.
        examples: training examples read.
        loss: mean training loss, in nats and with the penalty on embeddings.
        label_mean: share of positive labels.
        seconds: of training, without validation.
        examples_per_second: of training.
        tokens_per_second: history events a second of training, without padding.
        padding_share: share of the computed positions that holds no event.
        input_wait_share: share of the training time that waited for input.
        validation: auc, log_loss, calibration and gauc (by user) on the validation split.
        validation_seconds: of validation.
    """

    epoch: int
    examples: int
    loss: float
    label_mean: float
    seconds: float
    examples_per_second: float
    tokens_per_second: float = 0.0
    padding_share: float = 0.0
    input_wait_share: float = 0.0
    validation: dict[str, float] = dataclasses.field(default_factory=dict)
    validation_seconds: float = 0.0


class TrainingLoop:
    """Runs epochs of one ranker.

    Args:
        factory: makes the ranker.
        train_files: transformed examples to train on.
        examples: training examples if known: an epoch that reads others fails. A learning rate
            schedule that needs them counts them otherwise.
        monitor: is told of each step.
        ranker: one that is trained already, if it is only to be evaluated.
    """

    def __init__(
        self,
        factory: RankerFactory,
        train_files: Sequence[str],
        *,
        examples: int | None = None,
        monitor: TrainingMonitor | None = None,
        ranker: Ranker | None = None,
    ) -> None:
        self._factory = factory
        self._strategy = factory.strategy
        self._workers = WorkerGroup(factory.strategy)
        self._files = list(train_files)
        self._examples = self._expected = examples
        self._monitor = monitor or TrainingMonitor()
        if ranker is not None:
            self.ranker = ranker
        elif factory.train.learning_rate_schedule is LearningRateSchedule.LINEAR:
            self.ranker = factory.make(steps=self._count_steps() * factory.train.max_epochs)
        else:
            self.ranker = factory.make()
        self._train_step: Any = None
        self._score_step: Any = None

    def _count_steps(self) -> int:
        """Counts the steps of an epoch."""
        batch_size = self._factory.train.batch_size
        if self._factory.plan.packed:
            return -(-self._count() // records_per_batch(self._files, batch_size))
        if self._examples is None:
            self._examples = self._count()
        return -(-self._examples // batch_size)

    def _count(self) -> int:
        try:
            return count_records(self._files)
        except tf.errors.OpError as error:
            raise self._unreadable(self._files, features.TRAIN_SPLIT, error) from error

    @property
    def state(self) -> dict[str, Any]:
        """All that a later step depends on, but for the position in the data."""
        return {
            "ranker": self.ranker,
            "optimizer": self.ranker.optimizer,
            "generators": _generators(self.ranker),
        }

    @property
    def steps(self) -> int:
        """Steps over all epochs."""
        return int(self.ranker.optimizer.iterations.numpy())

    def is_finite(self) -> bool:
        """Returns whether all weights are finite numbers."""
        return all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.ranker.weights)

    def run_epoch(
        self,
        epoch: int,
        title: str,
        *,
        tally: Tally | None = None,
        checkpoint: Callable[[Tally], None] | None = None,
        checkpoint_due: Callable[[], bool] = bool,
    ) -> Epoch:
        """Trains on every example once.

        Args:
            epoch: counts from 1; decides the order of the examples.
            title: how the progress calls this epoch.
            tally: what was done of this epoch already; it goes on from there.
            checkpoint: called with the tally after each step at whose begin one was due.
            checkpoint_due: whether one is; with several workers the chief's answer counts.

        Raises:
            TrainingError: the loss is no number, an example cannot be read or is missing, or the
                split has one class only.
        """
        config = self._factory.train
        tally = dataclasses.replace(tally) if tally else Tally()
        dataset = self._dataset(
            self._files, shuffle_seed=config.seed * 1000 + epoch, skip_steps=tally.steps
        )
        if self._train_step is None:
            self._train_step = self._compile_step(dataset)
        began = reported = time.monotonic()
        for batch, waited in self._batches(dataset, self._files, features.TRAIN_SPLIT):
            activity.begin(f"step {tally.steps + 1} of epoch {epoch}")
            due = tf.constant(float(self._workers.is_chief and checkpoint_due()), tf.float64)
            sums = self._train_step(batch, due).numpy()
            loss, rows, positives, events, padded, is_due = sums
            if not np.isfinite(loss):
                raise TrainingError(
                    f"training: the loss is {loss} at step {tally.steps + 1} of epoch {epoch}; "
                    f"look for extreme numbers in the features, or lower train.learning_rate "
                    f"(now {config.learning_rate})"
                )
            now = time.monotonic()
            step = Tally(
                steps=1,
                examples=int(rows),
                positives=int(positives),
                loss=float(loss) * config.batch_size,
                events=int(events),
                padded_events=int(padded),
                seconds=now - began,
                input_seconds=waited,
            )
            began = now
            tally.add(step)
            self._monitor.add(step, title, self.steps)
            if now - reported > SECONDS_BETWEEN_PROGRESS:
                reported = now
                note = f"{title}, loss {tally.mean_loss:.4f}"
                _report(tally.examples, self._examples, note)
            if checkpoint is not None and is_due:
                checkpoint(tally)
        if self._expected is not None and tally.examples != self._expected:
            raise self._incomplete(tally.examples)
        check_classes(tally.examples, tally.positives, split=features.TRAIN_SPLIT)
        self._examples = tally.examples
        return Epoch(
            epoch=epoch,
            examples=tally.examples,
            loss=tally.mean_loss,
            label_mean=tally.positives / tally.examples,
            seconds=tally.seconds,
            examples_per_second=tally.examples_per_second,
            tokens_per_second=tally.tokens_per_second,
            padding_share=tally.padding_share,
            input_wait_share=tally.input_wait_share,
        )

    def check_whole(self, files: Sequence[str], split: str) -> None:
        """Refuses a split whose examples nobody has counted and of which a file lacks its end.

        Raises:
            TrainingError: such a file; TensorFlow would read it as one with fewer examples.
        """
        activity.begin(f"the ends of the files of the {split} split")
        fault = find_cut_file(files) if self._workers.is_chief else None
        if fault:
            raise TrainingError(f"{split} split cannot be read: {fault}")

    def evaluate(self, files: Sequence[str], split: str) -> dict[str, float]:
        """Returns exact metrics of the ranker on a split.

        Raises:
            TrainingError: the split has one class only.
        """
        dataset = self._dataset(files, shuffle_seed=None)
        if self._score_step is None:
            self._score_step = self._compile_scoring(dataset)
        pieces: list[tuple[Any, ...]] = []
        for batch, _ in self._batches(dataset, files, split):
            activity.begin(f"the scores of a batch of the {split} split")
            results = self._score_step(batch)
            local = [self._strategy.experimental_local_results(value) for value in results]
            pieces += list(zip(*local, strict=True))
        if not pieces:
            check_classes(0, 0, split=split)
        activity.begin(f"the metrics of the {split} split")
        logits, labels, groups = (
            self._workers.gather(np.concatenate([piece.numpy() for piece in column]))
            for column in zip(*pieces, strict=True)
        )
        check_classes(len(labels), int(labels.sum()), split=split)
        probabilities = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        found = {
            "auc": metrics.auc(labels, logits),
            "log_loss": metrics.log_loss(labels, probabilities),
            "calibration": metrics.calibration(labels, probabilities),
            "gauc": metrics.gauc(labels, logits, groups),
        }
        # A last bit that differs on another machine must not make it choose another epoch.
        return dict(zip(found, self._workers.from_chief(list(found.values())), strict=True))

    def _batches(
        self, dataset: Any, files: Sequence[str], split: str
    ) -> Iterator[tuple[Any, float]]:
        """Yields each batch, and the seconds it was waited for."""
        iterator = iter(dataset)
        while True:
            activity.begin(f"a batch of the {split} split")
            began = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except tf.errors.OpError as error:
                raise self._unreadable(files, split, error) from error
            yield batch, time.monotonic() - began

    def _unreadable(
        self, files: Sequence[str], split: str, error: tf.errors.OpError
    ) -> TrainingError:
        """Returns an error that names the file and the record at fault."""
        fault = find_bad_record(files, make_parser(self._factory.plan))
        reason = fault or str(error.message).strip().partition("\n")[0]
        return TrainingError(f"{split} split cannot be read: {reason}")

    def _incomplete(self, found: int) -> TrainingError:
        """Returns an error for files that end early, but where a record does or have none."""
        fault = find_bad_record(self._files, make_parser(self._factory.plan))
        reason = fault or "a file has changed since they were counted"
        return TrainingError(
            f"{features.TRAIN_SPLIT} split has {found:,} examples where SequenceProfile counted "
            f"{self._expected:,}: {reason}"
        )

    def _dataset(
        self, files: Sequence[str], *, shuffle_seed: int | None, skip_steps: int = 0
    ) -> Any:
        """Batches of the global batch size, shared among the devices of all workers."""
        config = self._factory.train

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            devices = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * devices
            return make_dataset(
                files,
                self._factory.plan,
                batch_size=config.batch_size,
                shuffle_seed=shuffle_seed,
                shuffle_buffer=config.shuffle_buffer,
                shares=context.num_replicas_in_sync,
                share=range(first, first + devices),
                skip_batches=skip_steps,
            )

        if self._strategy.num_replicas_in_sync == 1:
            return of_worker(tf.distribute.InputContext())
        return self._strategy.distribute_datasets_from_function(of_worker)

    def _compile_step(self, dataset: Any) -> Any:
        """Traces a step once, for batches of any size; it returns sums over all devices."""

        @tf.function(input_signature=[dataset.element_spec, tf.TensorSpec([], tf.float64)])
        def run(batch: Any, due: tf.Tensor) -> tf.Tensor:
            sums = self._strategy.run(self._train_replica, args=(batch, due))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

        return run

    def _compile_scoring(self, dataset: Any) -> Any:
        """Traces scoring once, for batches of any size."""

        @tf.function(input_signature=[dataset.element_spec])
        def run(batch: Any) -> Any:
            return self._strategy.run(self._score_replica, args=(batch,))

        return run

    def _train_replica(self, batch: Any, due: tf.Tensor) -> tf.Tensor:
        """Returns loss, rows, positives, events, padded events and ``due``, float64 [6]."""
        results = self.ranker.train_step(batch)
        labels = batch[features.LABEL]
        lengths = count_events(batch, features.HISTORY_ITEM_ID)
        values = (
            results["total_loss"],
            tf.size(labels),
            tf.reduce_sum(labels),
            tf.reduce_sum(lengths),
            self._padded_events(batch, lengths),
            due,
        )
        # One vector is one message to the other workers.
        return tf.stack([tf.cast(value, tf.float64) for value in values])

    def _padded_events(self, batch: Any, lengths: tf.Tensor) -> tf.Tensor:
        """Counts the positions that the ranker computes for a batch."""
        groups = self.ranker.length_groups
        if is_packed(batch) and reads_windows(self.ranker.config):
            return packed_positions(batch, features.HISTORY_ITEM_ID, groups)
        return padded_events(lengths, groups)

    def _score_replica(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return self.ranker(batch, training=False), batch[features.LABEL], batch[USER_GROUP]


def check_classes(rows: int, positives: int, *, split: str) -> None:
    """Refuses a split that nothing can be learned from or measured on.

    Raises:
        TrainingError: the split is empty or has one class only.
    """
    if rows == 0:
        raise TrainingError(f"{split} split: it has no examples")
    if positives in (0, rows):
        label = 0 if positives == 0 else 1
        raise TrainingError(
            f"{split} split: all {rows} labels are {label}; clicks and impressions without a "
            "click are both needed"
        )


def _report(done: int, total: int | None, note: str) -> None:
    progress.info("train", extra={"done": done, "total": total, "unit": "examples", "note": note})


def _generators(ranker: Ranker) -> list[tf.random.Generator]:
    """Random generators of the layers, in the order of the layers."""
    found = []
    for layer in ranker.submodules:
        generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
        if generator is not None:
            found.append(generator)
    return found
