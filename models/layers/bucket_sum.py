"""Sums of the events that share the target's hash buckets."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, ungroup
from models.layers.sublayers import fixed_normal, require_at_least


@keras.utils.register_keras_serializable(package="lengthwise")
class BucketSum(keras.layers.Layer):
    """Sums, for each of several hashes, the events in the target's bucket, and takes the mean.

    Formula::

        bucket_m(x) = sum_b 2^b [x R_m > 0]_b                 R_m in [dim, bits], fixed
        out         = mean_m sum_j [bucket_m(s_j) = bucket_m(t)] s_j

    The R_m are drawn once from the seed, are not trained, and are saved with the model, so that
    buckets repeat after an export. Hashing and sums are done in float32.

    Args:
        hashes: int, number of hashes, default 2.
        bits: int, bits of each, default 4.
        normalize: bool, divides each bucket's sum by its Euclidean norm; default False.
        seed: int, of the projections, default 0.

    Call arguments:
        target: ``[rows, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of a user
            in consecutive rows.
        history: ``[batch, length, dim]``.
        event_mask: ``[batch, length]``, true at real events.
        prompts: None, or ``[batch, prompts, dim]``; they are in every bucket.

    Returns:
        ``[rows, dim]``.

    Padding is in no bucket; a row of length 0 gives zeros, or the sum of its prompts. For many
    candidates, ``encode_history`` sums all buckets once and ``look_up`` picks the target's.

    Example:

    >>> layer = BucketSum(hashes=2, bits=4)
    >>> layer(tf.ones([1, 3]), tf.ones([1, 5, 3]), tf.ones([1, 5], tf.bool)).numpy().tolist()
    [[5.0, 5.0, 5.0]]

    Reference: SDIM, arXiv 2205.10249.
    """

    def __init__(
        self,
        hashes: int = 2,
        bits: int = 4,
        *,
        normalize: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("hashes", hashes, 1)
        if not 1 <= bits <= 16:
            raise ValueError(f"bits {bits}: 1 to 16 is accepted")
        self.hashes = hashes
        self.bits = bits
        self.normalize = normalize
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        """Draws the projections."""
        self.projection = self.add_weight(
            name="projection",
            shape=(input_shape[-1], self.hashes * self.bits),
            initializer=fixed_normal(self.seed),
            trainable=False,
            autocast=False,  # rounded to half precision it would give other codes
        )
        super().build(input_shape)

    def buckets(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns bucket numbers ``[..., hashes]`` int32 of vectors ``[..., dim]``."""
        vectors = tf.cast(tf.stop_gradient(vectors), tf.float32)
        projected = tf.matmul(vectors, tf.cast(self.projection, tf.float32))
        shape = tf.concat([tf.shape(vectors)[:-1], [self.hashes, self.bits]], axis=0)
        ones = tf.cast(tf.reshape(projected, shape) > 0, tf.int32)
        return tf.reduce_sum(ones * [2**bit for bit in range(self.bits)], axis=-1)

    def call(
        self,
        target: tf.Tensor,
        history: tf.Tensor,
        event_mask: tf.Tensor,
        prompts: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the mean of the sums of the target's buckets."""
        wanted = group_by_user(self.buckets(target), tf.shape(history)[0])
        collides = wanted[:, :, None] == self.buckets(history)[:, None]
        # [batch, candidates, length, hashes]
        collides &= tf.cast(event_mask, tf.bool)[:, None, :, None]
        sums = tf.einsum(
            "uclm,uld->ucmd", tf.cast(collides, tf.float32), tf.cast(history, tf.float32)
        )
        return self._combine(sums, prompts)

    def encode_history(self, history: tf.Tensor, event_mask: tf.Tensor) -> tf.Tensor:
        """Returns the sums of all buckets, ``[batch, hashes, 2^bits, dim]`` float32."""
        sizes = tf.shape(history)
        count = 2**self.bits
        # One segment for each user, hash and bucket; -1 drops padding.
        cells = tf.range(sizes[0])[:, None, None] * self.hashes + tf.range(self.hashes)
        segments = cells * count + self.buckets(history)  # [batch, length, hashes]
        segments = tf.where(tf.cast(event_mask, tf.bool)[..., None], segments, -1)
        repeated = tf.repeat(tf.cast(history, tf.float32)[:, :, None], self.hashes, axis=2)
        sums = tf.math.unsorted_segment_sum(repeated, segments, sizes[0] * self.hashes * count)
        return tf.reshape(sums, [sizes[0], self.hashes, count, sizes[2]])

    def look_up(
        self, target: tf.Tensor, encoded: tf.Tensor, prompts: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns what ``call`` does, from the sums of ``encode_history``."""
        wanted = group_by_user(self.buckets(target), tf.shape(encoded)[0])
        by_hash = tf.transpose(wanted, [0, 2, 1])  # [batch, hashes, candidates]
        sums = tf.gather(encoded, by_hash, axis=2, batch_dims=2)
        return self._combine(tf.transpose(sums, [0, 2, 1, 3]), prompts)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "hashes": self.hashes,
            "bits": self.bits,
            "normalize": self.normalize,
            "seed": self.seed,
        }

    def _combine(self, sums: tf.Tensor, prompts: tf.Tensor | None) -> tf.Tensor:
        """Adds prompts to sums ``[batch, candidates, hashes, dim]`` and takes the mean."""
        if prompts is not None:
            sums += tf.reduce_sum(tf.cast(prompts, tf.float32), axis=1)[:, None, None]
        if self.normalize:
            sums = tf.math.l2_normalize(sums, axis=-1, epsilon=1e-12)
        return tf.cast(ungroup(tf.reduce_mean(sums, axis=2)), self.compute_dtype)
