"""Attention of very many queries to the keys and values of one history."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.layers.candidates import group_by_user
from models.layers.windows import MASKED_LOGIT


def attend_by_head(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    added: tf.Tensor,
    *,
    heads: int,
) -> tf.Tensor:
    """Softmax over the events of ``queries . keys + added``, and the mean of values by it.

    With so many queries to one list the logits are what takes the time, so each pass over them
    counts: mask and bias are one addition, and heads run one after another, so that it is of two
    tensors of the same shape.

    Args:
        queries: ``[users, n, heads * dim]``, scaled.
        keys: ``[users, length, heads * dim]``.
        values: ``[users, length, heads * dim]``.
        added: float32 ``[users, n or 1, length]``, position biases and the mask, of all heads.
        heads: number of heads.

    Returns:
        ``[users, n, heads * dim]``; of a query that sees no event, a mean of padding.
    """
    by_head = zip(
        *(tf.split(part, heads, axis=-1) for part in (queries, keys, values)), strict=True
    )
    return tf.concat([_softmax_mean(*parts, added) for parts in by_head], axis=-1)


def attend_windows(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    windows: tf.Tensor,
    bias: tf.Tensor | None = None,
    *,
    heads: int,
) -> tf.Tensor:
    """Attention of each candidate's queries to the events of its window.

    Args:
        queries: ``[users, candidates * queries, heads * dim]``, scaled.
        keys: ``[users, length, heads * dim]``.
        values: ``[users, length, heads * dim]``.
        windows: bool ``[users, candidates, length]``.
        bias: None, or ``[users * candidates, queries, length]``.
        heads: number of heads.

    Returns:
        ``[users, candidates * queries, heads * dim]``; 0 for an empty window.
    """
    candidates, length = tf.shape(windows)[1], tf.shape(windows)[2]
    count = tf.shape(queries)[1] // tf.maximum(candidates, 1)
    added = tf.where(windows, 0.0, MASKED_LOGIT)[:, :, tf.newaxis]
    if bias is None:
        added = tf.repeat(added, count, axis=2)
    else:
        added += group_by_user(tf.cast(bias, tf.float32), tf.shape(windows)[0])
    added = tf.reshape(added, [-1, candidates * count, length])
    read = attend_by_head(queries, keys, values, added, heads=heads)
    is_seen = tf.repeat(tf.reduce_any(windows, axis=-1), count, axis=1)
    return read * tf.cast(is_seen, read.dtype)[..., tf.newaxis]


@tf.custom_gradient
def _softmax_mean(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, added: tf.Tensor) -> Any:
    """Softmax over the events of ``queries . keys + added``, and the mean of values by it.

    The gradient of the logits is ``weights * (dweights - sum(result * dresult))``. The sum comes
    from the result, which is short, instead of from the weights, and is taken away within the
    product that gives ``dweights``.
    """
    logits = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32) + added
    weights = tf.nn.softmax(logits)
    cast = tf.cast(weights, values.dtype)
    # For so narrow a result einsum's product is the faster one.
    result = tf.einsum("bql,ble->bqe", cast, values)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        shared = tf.reduce_sum(result * upstream, axis=-1, keepdims=True)
        of_weights = tf.matmul(
            tf.concat([upstream, -shared], axis=-1),
            tf.concat([values, tf.ones_like(values[..., :1])], axis=-1),
            transpose_b=True,
        )
        of_logits = tf.cast(of_weights, tf.float32) * weights
        own = tf.cast(of_logits, queries.dtype)
        is_shared = added.shape[1] == 1
        return (
            tf.matmul(own, keys),
            tf.matmul(own, queries, transpose_a=True),
            tf.matmul(cast, upstream, transpose_a=True),
            tf.reduce_sum(of_logits, axis=1, keepdims=True) if is_shared else of_logits,
        )

    return result, gradient
