"""Softmax and mean over the events that exist."""

from __future__ import annotations

import tensorflow as tf

from models.layers.windows import MASKED_LOGIT, has_windows, window_mean


def masked_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis, of the positions that exist.

    It is computed in float32 whatever the inputs are: adding -1e9 overflows in float16.

    Args:
        logits: [..., length].
        mask: bool, broadcastable to ``logits``; true where there is an event.

    Returns:
        float32 weights [..., length] that sum to 1, or are all 0 where no event exists.
    """
    # Bounded and multiplied instead of selected, which is done in place and with the mask as small
    # as it came: with many queries to a long history the logits are what takes the time.
    bound = tf.where(mask, float("inf"), MASKED_LOGIT)
    weights = tf.nn.softmax(tf.minimum(tf.cast(logits, tf.float32), bound), axis=-1)
    return weights * tf.cast(tf.reduce_any(mask, axis=-1, keepdims=True), tf.float32)


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the events that exist.

    Args:
        values: [rows, length, dim].
        mask: bool [rows, length]; or windows [rows, candidates, length].

    Returns:
        [rows, dim] in the type of ``values``, or [rows * candidates, dim] over the windows; 0
        where no event exists.
    """
    if has_windows(mask):
        return window_mean(values, mask)
    kept = tf.where(mask[:, :, tf.newaxis], values, tf.zeros_like(values))
    count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
    total = tf.reduce_sum(tf.cast(kept, tf.float32), axis=1)
    return tf.cast(total / tf.maximum(count, 1.0), values.dtype)
