"""Several candidates for each user: which rows belong together.

Tensors of the target side may have a multiple of the rows of the history side. Row
``user * candidates + n`` is then candidate ``n`` of ``user``; in training there is one candidate,
and the two sides have the same rows.
"""

from __future__ import annotations

import tensorflow as tf


def group_by_user(tensor: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """Returns ``[users, candidates, ...]`` from ``[users * candidates, ...]``.

    Args:
        tensor: rank 2 or more; sizes after the first axis may be unknown.
        users: scalar, rows of the history side; 0 rows are allowed.
    """
    sizes = tf.shape(tensor)
    # A size of -1 cannot be inferred for an empty batch, so it is worked out.
    candidates = sizes[0] // tf.maximum(users, 1)
    grouped = tf.reshape(tensor, tf.concat([[users, candidates], sizes[1:]], axis=0))
    return tf.ensure_shape(grouped, [None, None, *tensor.shape[1:]])


def ungroup(tensor: tf.Tensor) -> tf.Tensor:
    """Returns ``[users * candidates, ...]`` from ``[users, candidates, ...]``."""
    sizes = tf.shape(tensor)
    flat = tf.reshape(tensor, tf.concat([[sizes[0] * sizes[1]], sizes[2:]], axis=0))
    return tf.ensure_shape(flat, [None, *tensor.shape[2:]])


def repeat_for_candidates(history_side: tf.Tensor, target_side: tf.Tensor) -> tf.Tensor:
    """Repeats each row ``[users, ...]`` for the candidates of ``target_side``."""
    candidates = tf.shape(target_side)[0] // tf.maximum(tf.shape(history_side)[0], 1)
    repeated = tf.repeat(history_side, candidates, axis=0)
    return tf.ensure_shape(repeated, [None, *history_side.shape[1:]])


def merge_queries(tensor: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """Returns ``[users, candidates * queries, dim]`` from ``[users * candidates, queries, dim]``.

    Each query attends on its own, so the candidates of a user are queries of one attention.
    """
    grouped = group_by_user(tensor, users)
    sizes = tf.shape(grouped)
    merged = tf.reshape(grouped, [sizes[0], sizes[1] * sizes[2], sizes[3]])
    return tf.ensure_shape(merged, [None, None, tensor.shape[-1]])


def split_queries(tensor: tf.Tensor, queries: int) -> tf.Tensor:
    """Undoes ``merge_queries``: ``[users * candidates, queries, dim]``."""
    sizes = tf.shape(tensor)
    split = tf.reshape(tensor, [sizes[0] * (sizes[1] // queries), queries, sizes[2]])
    return tf.ensure_shape(split, [None, queries, tensor.shape[-1]])
