"""Retrieval of similar events by random-projection hashes."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, ungroup
from models.layers.retrieval import gather_events, top_k_events, top_k_for_candidates
from models.layers.sublayers import fixed_normal, require_at_least


class RetrievedEvents(NamedTuple):
    """Events of a history picked for each target.

    Attributes:
        events: ``[rows, count, dim]``.
        event_mask: ``[rows, count]`` bool, false where a history had fewer events.
        positions: ``[rows, count]`` int32, in the padded history.
    """

    events: tf.Tensor
    event_mask: tf.Tensor
    positions: tf.Tensor


@keras.utils.register_keras_serializable(package="lengthwise")
class SimHash(keras.layers.Layer):
    """Retrieves the events whose hash is nearest to the target's.

    Formula::

        code(x) = [x R > 0]                    R in [dim, bits], fixed
        picked  = the ``count`` events of smallest Hamming distance to code(t)

    R is drawn once from the seed, is not trained, and is saved with the model, so that retrieval
    repeats after an export. Hashing is done in float32. Among equal distances the more recent
    event wins. Positions have no gradient; the events read have.

    Args:
        count: int, events to retrieve, default 50.
        bits: int, length of a code, default 32.
        seed: int, of the projection, default 0.

    Call arguments:
        target: ``[rows, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of a user
            in consecutive rows.
        history: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events.
        codes: None, or what ``encode_history`` made of the history.

    Returns:
        ``RetrievedEvents`` of ``min(count, length)`` events for each target row.

    Padding is never retrieved: with fewer events than ``count``, and at length 0, the surplus is
    masked.

    Example:

    >>> found = SimHash(count=3)(tf.ones([2, 8]), tf.ones([2, 5, 8]), tf.ones([2, 5], tf.bool))
    >>> found.events.shape, found.positions.numpy()[0].tolist()
    (TensorShape([2, 3, 8]), [4, 3, 2])

    Reference: ETA, arXiv 2108.04468.
    """

    def __init__(self, count: int = 50, bits: int = 32, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least("count", count, 1)
        require_at_least("bits", bits, 1)
        self.count = count
        self.bits = bits
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Draws the projection."""
        self.projection = self.add_weight(
            name="projection",
            shape=(input_shape[-1], self.bits),
            initializer=fixed_normal(self.seed),
            trainable=False,
            autocast=False,  # rounded to half precision it would give other codes
        )
        super().build(input_shape)

    def encode_history(self, history: tf.Tensor) -> tf.Tensor:
        """Returns codes of -1 and 1, ``[..., bits]`` float32, of vectors ``[..., dim]``."""
        vectors = tf.cast(tf.stop_gradient(history), tf.float32)
        projected = tf.matmul(vectors, tf.cast(self.projection, tf.float32))
        return tf.where(projected > 0, 1.0, -1.0)

    def distances(self, target: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
        """Returns Hamming distances ``[batch, candidates, length]`` to the history's codes."""
        own = group_by_user(self.encode_history(target), tf.shape(codes)[0])
        # Keras 3 casts the codes that a call is given, under mixed precision.
        codes = tf.cast(codes, own.dtype)
        return (self.bits - tf.matmul(own, codes, transpose_b=True)) / 2

    def call(
        self,
        target: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        codes: tf.Tensor | None = None,
    ) -> RetrievedEvents:
        """Returns the nearest events for each target."""
        codes = self.encode_history(history) if codes is None else codes
        nearness = -self.distances(target, codes)
        positions, real = top_k_events(nearness, tf.cast(event_mask, tf.bool)[:, None], self.count)
        return RetrievedEvents(
            events=ungroup(gather_events(history, positions)),
            event_mask=ungroup(real),
            positions=ungroup(positions),
        )

    def choose(
        self, target: tf.Tensor, history: tf.Tensor, event_mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the positions of the nearest events in any order, and whether each is real.

        For many candidates a user: both are ``[rows, min(count, length)]``.
        """
        codes = self.encode_history(history)
        # A product of codes falls by 2 where the distance grows by 1.
        own = group_by_user(self.encode_history(target), tf.shape(codes)[0])
        real = tf.cast(event_mask, tf.bool)[:, None]
        positions, kept = top_k_for_candidates(own, codes, real, self.count)
        return ungroup(positions), ungroup(kept)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "count": self.count,
            "bits": self.bits,
            "seed": self.seed,
        }
