"""The training loop: epochs, exact validation metrics, the best checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models import metrics
from models.config import ModelConfig, TrainConfig
from models.inputs import make_dataset, transformed_spec
from models.optimizers.build import make_optimizer
from models.plan import USER_GROUP, RankerPlan
from models.ranker import Ranker
from schemas import features
from schemas.profile import SequenceProfile

logger = logging.getLogger(__name__)
progress = logging.getLogger("lengthwise.progress")

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
        validation: auc, log_loss, calibration and gauc (by user) on the validation split.
        validation_seconds: of validation.
    """

    epoch: int
    examples: int
    loss: float
    label_mean: float
    seconds: float
    examples_per_second: float
    validation: dict[str, float] = dataclasses.field(default_factory=dict)
    validation_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankerFactory:
    """Makes rankers that start from the same weights.

    Attributes:
        plan: what the ranker reads.
        model: the ``model`` section.
        train: the ``train`` section.
        vocabulary_sizes: entries of each vocabulary.
        profile: statistics of the training split.
        strategy: devices to train on.
    """

    plan: RankerPlan
    model: ModelConfig
    train: TrainConfig
    vocabulary_sizes: Mapping[str, int]
    strategy: tf.distribute.Strategy
    profile: SequenceProfile | None = None

    def make(self) -> Ranker:
        """Makes, builds and compiles a ranker; the seed decides its weights."""
        tf.keras.utils.set_random_seed(self.train.seed)
        policy = "mixed_bfloat16" if self.train.mixed_precision else "float32"
        with _precision(policy), self.strategy.scope():
            ranker = Ranker(
                self.plan,
                self.model,
                self.vocabulary_sizes,
                global_batch_size=self.train.batch_size,
                profile=self.profile,
            )
            ranker(_blank_batch(self.plan), training=False)
            ranker.compile(
                optimizer=make_optimizer(self.train, ranker.tables, ranker.dense_weights)
            )
        return ranker


class TrainingLoop:
    """Runs epochs of one ranker.

    Args:
        factory: makes the ranker.
        train_files: transformed examples to train on.
        examples: training examples if known, for the progress.
    """

    def __init__(
        self, factory: RankerFactory, train_files: Sequence[str], *, examples: int | None = None
    ) -> None:
        self.ranker = factory.make()
        self._factory = factory
        self._strategy = factory.strategy
        self._files = list(train_files)
        self._examples = examples
        self._train_step: Any = None
        self._score_step: Any = None

    def run_epoch(self, epoch: int, title: str) -> Epoch:
        """Trains on every example once.

        Args:
            epoch: counts from 1; decides the order of the examples.
            title: how the progress calls this epoch.

        Raises:
            TrainingError: the loss is no number, or the split has one class only.
        """
        config = self._factory.train
        dataset = self._dataset(self._files, shuffle_seed=config.seed * 1000 + epoch)
        if self._train_step is None:
            self._train_step = self._compile(self._train_replica, dataset)
        started = reported = time.monotonic()
        rows = positives = 0
        loss = 0.0
        for step, batch in enumerate(dataset):
            batch_loss, batch_rows, batch_positives = (
                float(value) for value in self._train_step(batch)
            )
            if not np.isfinite(batch_loss):
                raise TrainingError(
                    f"training: the loss is {batch_loss} at step {step + 1} of epoch {epoch}; "
                    f"look for extreme numbers in the features, or lower train.learning_rate "
                    f"(now {config.learning_rate})"
                )
            rows, positives = rows + int(batch_rows), positives + int(batch_positives)
            loss += batch_loss * config.batch_size
            if time.monotonic() - reported > SECONDS_BETWEEN_PROGRESS:
                reported = time.monotonic()
                _report(rows, self._examples, f"{title}, loss {loss / rows:.4f}")
        check_classes(rows, positives, split=features.TRAIN_SPLIT)
        self._examples = rows
        seconds = time.monotonic() - started
        return Epoch(
            epoch=epoch,
            examples=rows,
            loss=loss / rows,
            label_mean=positives / rows,
            seconds=seconds,
            examples_per_second=rows / max(seconds, 1e-9),
        )

    def evaluate(self, files: Sequence[str], split: str) -> dict[str, float]:
        """Returns exact metrics of the ranker on a split.

        Raises:
            TrainingError: the split has one class only.
        """
        dataset = self._dataset(files, shuffle_seed=None)
        if self._score_step is None:
            self._score_step = self._compile(self._score_replica, dataset)
        pieces: list[tuple[Any, ...]] = []
        for batch in dataset:
            results = self._score_step(batch)
            local = [self._strategy.experimental_local_results(value) for value in results]
            pieces += list(zip(*local, strict=True))
        logits, labels, groups = (
            np.concatenate([piece.numpy() for piece in column])
            for column in zip(*pieces, strict=True)
        )
        check_classes(len(labels), int(labels.sum()), split=split)
        probabilities = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        return {
            "auc": metrics.auc(labels, logits),
            "log_loss": metrics.log_loss(labels, probabilities),
            "calibration": metrics.calibration(labels, probabilities),
            "gauc": metrics.gauc(labels, logits, groups),
        }

    def _dataset(self, files: Sequence[str], *, shuffle_seed: int | None) -> Any:
        """Batches of the global batch size, shared among the devices."""
        config = self._factory.train

        def per_device(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return make_dataset(
                files,
                self._factory.plan,
                batch_size=context.get_per_replica_batch_size(config.batch_size),
                shuffle_seed=shuffle_seed,
                shuffle_buffer=config.shuffle_buffer,
                shard=(context.input_pipeline_id, context.num_input_pipelines),
            )

        if self._strategy.num_replicas_in_sync == 1:
            return per_device(tf.distribute.InputContext())
        return self._strategy.distribute_datasets_from_function(per_device)

    def _compile(self, function: Any, dataset: Any) -> Any:
        """Traces ``function`` once, for batches of any size."""

        def run(batch: Any) -> Any:
            return self._strategy.run(function, args=(batch,))

        if function == self._train_replica:
            inner = run

            def run(batch: Any) -> Any:
                return tuple(
                    self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                    for value in inner(batch)
                )

        return tf.function(run, input_signature=[dataset.element_spec])

    def _train_replica(self, batch: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        results = self.ranker.train_step(batch)
        labels = batch[features.LABEL]
        rows = tf.cast(tf.size(labels), tf.float32)
        return results["total_loss"], rows, tf.reduce_sum(labels)

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


def _blank_batch(plan: RankerPlan) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """One row of zeros with one event, to build a ranker with."""
    return {
        name: tf.RaggedTensor.from_row_lengths(tf.zeros([1], tf.int64), tf.ones([1], tf.int64))
        if isinstance(form, tf.io.RaggedFeature)
        else tf.zeros([1, *form.shape], form.dtype)
        for name, form in transformed_spec(plan).items()
    }


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
