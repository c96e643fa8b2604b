"""The long workload that training costs are measured on, made in memory.

Histories of at most 1,000 events with log-normal lengths (median 60, sigma 1.71), so a mean of
about 170 and 5 % at the maximum; 500,000 items drawn by Zipf(1); five side fields of 10,000
values; width 64; batches of 1,024; a head of 1,024, 512 and 256.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from models.config import ActionFusion, ModelConfig, TrainConfig
from models.plan import FIELDS, FIRST_INDEX, Category, RankerPlan
from models.ranker import Ranker
from models.training import RankerFactory
from schemas import features
from schemas.dataset_sections import FieldType
from schemas.loading import build
from schemas.profile import SequenceProfile

Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Sizes of the workload; the defaults are those that figures are reported for."""

    items: int = 500_000
    max_length: int = 1_000
    median_length: float = 60.0
    length_sigma: float = 1.71
    fields: int = 5
    field_values: int = 10_000
    embedding_dim: int = 64
    batch_size: int = 1_024
    hidden_units: tuple[int, ...] = (1_024, 512, 256)

    @property
    def plan(self) -> RankerPlan:
        """What a ranker reads of it."""
        return RankerPlan(
            item=Category(name=features.ITEM_ID, type=FieldType.INT),
            history_fields=(),
            categories=tuple(
                Category(name=f"field_{index}", type=FieldType.INT) for index in range(self.fields)
            ),
            numbers=(),
            fusion=ActionFusion.NONE,
            action_types=0,
            max_length=self.max_length,
            user=FieldType.INT,
            min_count=1,
        )

    @property
    def profile(self) -> SequenceProfile:
        """Statistics of its lengths, from a large sample."""
        lengths = self.lengths(np.random.default_rng(0), 100_000)
        return SequenceProfile(
            examples=100_000,
            max_length=self.max_length,
            length_mean=float(lengths.mean()),
            length_std=float(lengths.std()),
            length_quantiles={},
            total_length_quantiles={},
            items=self.items,
            samples_per_item=100_000 / self.items,
            proposed_length_edges=[],
            proposed_density_edges=[],
            length_bucket_shares={},
            density_bucket_shares={},
            label_mean=0.2,
        )

    def lengths(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Draws history lengths, in events."""
        drawn = random.lognormal(np.log(self.median_length), self.length_sigma, count)
        return np.clip(np.round(drawn), 1, self.max_length).astype(np.int64)

    def batches(self, count: int, seed: int = 1) -> list[Batch]:
        """Makes transformed batches."""
        random = np.random.default_rng(seed)
        weights = np.cumsum(1.0 / np.arange(1, self.items + 1))
        return [self._batch(random, weights / weights[-1]) for _ in range(count)]

    def dataset(self, count: int, seed: int = 1) -> tf.data.Dataset:
        """Returns batches without end, drawn at random from ``count`` batches of examples.

        The examples are in memory; each batch is put together by tf.data while the one before
        is trained on.
        """
        made = self.batches(count, seed)
        examples = {name: tf.concat([batch[name] for batch in made], axis=0) for name in made[0]}
        total = count * self.batch_size
        order = tf.data.Dataset.range(total).shuffle(total, seed=seed).repeat()
        return (
            order.batch(self.batch_size, drop_remainder=True)
            .map(
                lambda chosen: {
                    name: tf.gather(values, chosen) for name, values in examples.items()
                },
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .prefetch(tf.data.AUTOTUNE)
        )

    def write_files(self, folder: str, count: int, files: int, seed: int = 1) -> list[str]:
        """Writes the examples of ``count`` batches as TFRecords; returns the paths."""
        history = features.history_feature(features.ITEM_ID)
        paths = [f"{folder}/examples-{index:05d}" for index in range(files)]
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
            for batch in self.batches(count, seed):
                lists = {
                    name: batch[name].numpy() for name in (features.ITEM_ID, FIELDS, features.LABEL)
                }
                for row, events in enumerate(batch[history]):
                    example = tf.train.Example()
                    into = example.features.feature
                    into[history].int64_list.value.extend(events.numpy())
                    into[features.ITEM_ID].int64_list.value.append(lists[features.ITEM_ID][row])
                    into[FIELDS].int64_list.value.extend(lists[FIELDS][row])
                    into[features.LABEL].float_list.value.append(lists[features.LABEL][row])
                    writers[row % files].write(example.SerializeToString())
        return paths

    @staticmethod
    def history(batch: Batch) -> tf.RaggedTensor:
        """Returns the item ids of the histories of a batch."""
        return batch[features.history_feature(features.ITEM_ID)]

    def make_ranker(self, model: dict[str, Any], train: dict[str, Any] | None = None) -> Ranker:
        """Makes, builds and compiles a ranker of this size.

        Args:
            model: keys of the ``model`` section beside those that the workload fixes.
            train: keys of the ``train`` section.
        """
        fixed = {"embedding_dim": self.embedding_dim, "hidden_units": self.hidden_units}
        config = build(ModelConfig, {**fixed, **model}, where="model")
        factory = RankerFactory(
            plan=self.plan,
            model=config,
            train=build(
                TrainConfig, {"batch_size": self.batch_size, **(train or {})}, where="train"
            ),
            vocabulary_sizes={
                features.ITEM_ID: self.items,
                FIELDS: self.fields * self.field_values,
            },
            strategy=tf.distribute.get_strategy(),
            profile=self.profile,
        )
        return factory.make()

    def _batch(self, random: np.random.Generator, cumulated: np.ndarray) -> Batch:
        lengths = self.lengths(random, self.batch_size)

        def items(count: int) -> tf.Tensor:
            drawn = np.searchsorted(cumulated, random.random(count))
            return tf.constant(drawn + FIRST_INDEX, tf.int64)

        offsets = np.arange(self.fields) * self.field_values + FIRST_INDEX
        values = random.integers(0, self.field_values, [self.batch_size, self.fields])
        return {
            features.ITEM_ID: items(self.batch_size),
            features.history_feature(features.ITEM_ID): tf.RaggedTensor.from_row_lengths(
                items(int(lengths.sum())), lengths
            ),
            FIELDS: tf.constant(values + offsets, tf.int64),
            features.LABEL: tf.constant(random.random(self.batch_size) < 0.2, tf.float32),
        }


def make_step(ranker: Ranker, batch: Batch, *, training: bool) -> Any:
    """Traces a training step, or a scoring step, for batches of any size."""
    spec = {
        name: tf.RaggedTensorSpec([None, None], tf.int64)
        if isinstance(value, tf.RaggedTensor)
        else tf.TensorSpec([None, *value.shape[1:]], value.dtype)
        for name, value in batch.items()
    }

    @tf.function(input_signature=[spec])
    def step(inputs: Batch) -> tf.Tensor:
        if training:
            return ranker.train_step(inputs)["total_loss"]
        return ranker(inputs, training=False)

    return step
