"""Makes rankers that are ready to train."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import tensorflow as tf

from models.config import ModelConfig, TrainConfig
from models.inputs import transformed_spec
from models.optimizers.build import make_optimizer
from models.plan import RankerPlan
from models.ranker import Ranker
from models.weight_places import weights_by_place
from schemas.profile import SequenceProfile


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankerFactory:
    """Makes rankers that start from the same weights.

    Attributes:
        plan: what the ranker reads.
        model: the ``model`` section.
        train: the ``train`` section.
        vocabulary_sizes: entries of each table of the plan, buckets of hashed categories among
            them, without padding and unknown.
        profile: statistics of the training split.
        strategy: devices to train on.
    """

    plan: RankerPlan
    model: ModelConfig
    train: TrainConfig
    vocabulary_sizes: Mapping[str, int]
    strategy: tf.distribute.Strategy
    profile: SequenceProfile | None = None

    def make(self, *, steps: int | None = None) -> Ranker:
        """Makes, builds and compiles a ranker; the seed decides its weights.

        Args:
            steps: of the whole training, which a learning rate schedule needs; None if the ranker
                is not trained.
        """
        tf.keras.utils.set_random_seed(self.train.seed)
        policy = "mixed_bfloat16" if self.train.mixed_precision else "float32"
        with _precision(policy), _random_generators(), self.strategy.scope():
            ranker = Ranker(
                self.plan,
                self.model,
                self.vocabulary_sizes,
                global_batch_size=self.train.batch_size,
                profile=self.profile,
            )
            ranker(_blank_batch(self.plan), training=False)
            places = weights_by_place(ranker)
            trainable = {weight.ref() for weight in ranker.trainable_variables}
            ranker.compile(
                optimizer=make_optimizer(
                    self.train,
                    {
                        place: weight
                        for place, weight in places.items()
                        if weight.ref() in trainable
                    },
                    ranker.tables,
                    steps=steps,
                )
            )
        return ranker

    def make_for_serving(self, trained: Ranker) -> Ranker:
        """Returns the ranker to export: one that computes in float32, with the trained weights.

        In bfloat16 the signatures, which compute the same by other products, differ in the third
        digit of a score, and so would the scores of an example in requests of other sizes.
        """
        if not self.train.mixed_precision:
            return trained
        train = dataclasses.replace(self.train, mixed_precision=False)
        ranker = dataclasses.replace(self, train=train).make()
        weights = weights_by_place(trained)
        for place, weight in weights_by_place(ranker).items():
            weight.assign(weights[place])
        return ranker


def _blank_batch(plan: RankerPlan) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """One row of zeros with one event, to build a ranker with."""
    return {
        name: tf.RaggedTensor.from_row_lengths(tf.zeros([1], tf.int64), tf.ones([1], tf.int64))
        if isinstance(form, tf.io.RaggedFeature)
        else tf.zeros([1, *form.shape], form.dtype)
        for name, form in transformed_spec(plan).items()
    }


@contextlib.contextmanager
def _random_generators() -> Iterator[None]:
    """Gives dropout layers random generators whose state is a variable, so it can be saved."""
    experimental = tf.keras.backend.experimental
    before = experimental.is_tf_random_generator_enabled()
    experimental.enable_tf_random_generator()
    try:
        yield
    finally:
        if not before:
            experimental.disable_tf_random_generator()


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
