"""Softmax attention to one history with few passes over its logits, the largest of its tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.layers.candidates import group_by_user
from models.layers.sublayers import product_of_rows
from models.layers.windows import MASKED_LOGIT


def attend_by_head(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    added: tf.Tensor,
    *,
    heads: int,
) -> tf.Tensor:
    """Attention of very many queries to keys and values: softmax of ``queries . keys + added``.

    With so many queries to one list each pass over the logits counts: mask and bias are one
    addition, and heads run one after another, so that it is of two tensors of the same shape.

    Args:
        queries: ``[users, n, heads * dim]``, scaled.
        keys: ``[users, length, heads * dim]``.
        values: ``[users, length, heads * dim]``.
        added: float32 ``[users, n or 1, length]``, position biases and the mask, of all heads.
        heads: number of heads.

    Returns:
        ``[users, n, heads * dim]``; of a query that sees no event, a mean of padding.
    """
    parts = [tf.split(part, heads, axis=-1) for part in (queries, keys, values)]
    return tf.concat(
        [_softmax_mean(q, k, v, added) for q, k, v in zip(*parts, strict=True)], axis=-1
    )


def attend_to_events(
    queries: tf.Tensor, events: tf.Tensor, added: tf.Tensor, *, heads: int
) -> tf.Tensor:
    """Attention to the events themselves, of queries that the key projection is folded into.

    Args:
        queries: ``[batch, heads * n, dim]``, scaled.
        events: ``[batch, length, dim]``, keys and values of all heads.
        added: float32 ``[batch, n or 1, length]``, position biases and the mask, of all heads.
        heads: number of heads.

    Returns:
        ``[batch, heads * n, dim]``; of a query that sees no event, a mean of padding.
    """
    return _softmax_mean(queries, events, events, added, heads)


def fold_kernel(queries: tf.Tensor, kernel: tf.Tensor, heads: int) -> tf.Tensor:
    """Folds the projection of keys into queries: their product with an event is its score.

    Args:
        queries: ``[batch, n, heads * head_dim]``.
        kernel: ``[dim, heads * head_dim]``, of the keys.
        heads: number of heads.

    Returns:
        ``[batch, heads, n, dim]``.
    """
    parts = zip(tf.split(queries, heads, axis=-1), tf.split(kernel, heads, axis=1), strict=True)
    return tf.stack(
        [product_of_rows(part, of_head, transpose=True) for part, of_head in parts], axis=1
    )


def project_heads(pooled: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Projects what each head has read of the events, side by side.

    Args:
        pooled: ``[batch, heads, n, dim]``.
        kernel: ``[dim, heads * head_dim]``, of the values.

    Returns:
        ``[batch, n, heads * head_dim]``.
    """
    parts = tf.unstack(pooled, axis=1)
    kernels = tf.split(kernel, len(parts), axis=1)
    return tf.concat(
        [product_of_rows(part, of_head) for part, of_head in zip(parts, kernels, strict=True)],
        axis=-1,
    )


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


def _softmax_mean(
    queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, added: tf.Tensor, heads: int = 1
) -> tf.Tensor:
    """Softmax over the events of ``queries . keys + added``, and the mean of values by it.

    ``added`` serves ``heads`` blocks of queries. The gradient of the logits is ``weights *
    (dweights - sum(result * dresult))``. The sum comes from the result, which is short, instead
    of from the weights.
    """
    sizes = tf.shape(queries)
    blocks = [sizes[0], heads, sizes[1] // heads, tf.shape(keys)[1]]
    is_shared = added.shape[1] == 1

    @tf.custom_gradient
    def attend(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, added: tf.Tensor) -> Any:
        logits = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
        if heads == 1:
            logits += added
        else:
            logits = tf.reshape(logits, blocks) + added[:, tf.newaxis]
            logits = tf.reshape(logits, [sizes[0], sizes[1], blocks[-1]])
        weights = tf.nn.softmax(logits)
        cast = tf.cast(weights, values.dtype)
        # For a result as narrow as that of one head einsum's product is the faster one.
        result = tf.einsum("bql,ble->bqe", cast, values) if heads == 1 else tf.matmul(cast, values)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            shared = tf.reduce_sum(result * upstream, axis=-1, keepdims=True)
            of_weights = tf.matmul(upstream, values, transpose_b=True) - shared
            of_logits = tf.cast(of_weights, tf.float32) * weights
            own = tf.cast(of_logits, queries.dtype)
            of_added = of_logits
            if is_shared:
                of_added = tf.reduce_sum(of_logits, axis=1, keepdims=True)
            elif heads > 1:
                of_added = tf.reduce_sum(tf.reshape(of_logits, blocks), axis=1)
            return (
                tf.matmul(own, keys),
                tf.matmul(own, queries, transpose_a=True),
                tf.matmul(cast, upstream, transpose_a=True),
                of_added,
            )

        return result, gradient

    return attend(queries, keys, values, added)
