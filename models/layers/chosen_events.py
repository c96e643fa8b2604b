"""Attention of many candidates to chosen events, whose keys and values are formed once.

A user's keys and values are ``[users, heads, length, head_dim]``, and each of his candidates
reads events of its own of them.
"""

from __future__ import annotations

import tensorflow as tf


def split_heads(tensor: tf.Tensor, heads: int) -> tf.Tensor:
    """Returns ``[users, heads, n, head_dim]`` from ``[users, n, heads * head_dim]``."""
    sizes = tf.shape(tensor)
    parted = tf.reshape(tensor, [sizes[0], sizes[1], heads, tensor.shape[-1] // heads])
    return tf.transpose(parted, [0, 2, 1, 3])


def merge_heads(tensor: tf.Tensor) -> tf.Tensor:
    """Returns ``[users * n, heads * head_dim]`` from ``[users, heads, n, head_dim]``."""
    sizes = tf.shape(tensor)
    width = tensor.shape[1] * tensor.shape[3]
    return tf.reshape(tf.transpose(tensor, [0, 2, 1, 3]), [sizes[0] * sizes[2], width])


def score_chosen(query: tf.Tensor, keys: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns logits ``[users, heads, candidates, count]``.

    Args:
        query: ``[users, heads, candidates, head_dim]``.
        keys: ``[users, heads, length, head_dim]``.
        positions: of the chosen events, ``[users, heads, candidates, count]``.
    """
    chosen = tf.gather(keys, positions, axis=2, batch_dims=2)
    return tf.squeeze(tf.matmul(chosen, query[..., tf.newaxis]), axis=-1)


def read_chosen(weights: tf.Tensor, values: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Returns the weighted sum of the chosen values, ``[users, heads, candidates, head_dim]``.

    Args:
        weights: ``[users, heads, candidates, count]``.
        values: ``[users, heads, length, head_dim]``.
        positions: of the chosen events, ``[users, heads, candidates, count]``.
    """
    chosen = tf.gather(values, positions, axis=2, batch_dims=2)
    return tf.squeeze(tf.matmul(weights[..., tf.newaxis, :], chosen), axis=-2)


def put_prompts_first(
    positions: tf.Tensor, real: tf.Tensor, prompts: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds prompts, which stand before the events and are always read, to the chosen events.

    Args:
        positions: in the events, ``[..., count]``.
        real: whether each is an event, bool ``[..., count]``.
        prompts: number of prompts.

    Returns:
        positions in ``[prompts ; events]``, and whether each is there,
        ``[..., prompts + count]``.
    """
    if not prompts:
        return positions, real
    shape = tf.concat([tf.shape(positions)[:-1], [prompts]], axis=0)
    first = tf.broadcast_to(tf.range(prompts, dtype=positions.dtype), shape)
    return (
        tf.concat([first, positions + prompts], axis=-1),
        tf.concat([tf.ones(shape, tf.bool), real], axis=-1),
    )
