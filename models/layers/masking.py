"""Softmax and mean over the events that exist."""

from __future__ import annotations

import tensorflow as tf

# Finite, so that a row without events gives zeros and not NaN.
MASKED_LOGIT = -1e9


def masked_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis, of the positions that exist.

    It is computed in float32 whatever the inputs are: adding -1e9 overflows in float16.

    Args:
        logits: [..., length].
        mask: bool, broadcastable to ``logits``; true where there is an event.

    Returns:
        float32 weights [..., length] that sum to 1, or are all 0 where no event exists.
    """
    logits = tf.cast(logits, tf.float32)
    mask = tf.broadcast_to(mask, tf.shape(logits))
    weights = tf.nn.softmax(tf.where(mask, logits, MASKED_LOGIT), axis=-1)
    return tf.where(tf.reduce_any(mask, axis=-1, keepdims=True), weights, tf.zeros_like(weights))


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the events that exist.

    Args:
        values: [rows, length, dim].
        mask: bool [rows, length].

    Returns:
        [rows, dim] in the type of ``values``; 0 where no event exists.
    """
    kept = tf.where(mask[:, :, tf.newaxis], values, tf.zeros_like(values))
    count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
    total = tf.reduce_sum(tf.cast(kept, tf.float32), axis=1)
    return tf.cast(total / tf.maximum(count, 1.0), values.dtype)
