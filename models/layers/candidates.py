"""Several candidates for each user: which rows belong together.

Tensors of the target side may have a multiple of the rows of the history side. Row
``user * candidates + n`` is then candidate ``n`` of ``user``; in training there is one candidate,
and the two sides have the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

# Numbers that the largest tensor of a chunk may hold, 8 MiB of float32: what is computed with it
# stays in the processor's cache, and is not fetched from memory by every operation anew.
CHUNK_NUMBERS = 2**21


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


def chunk_sizes(candidates: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how many chunks candidates are cut into, at least one, and how many each has at most.

    Args:
        candidates: scalar.
        numbers: scalar, numbers that the largest tensor of a chunk holds for each candidate.
    """
    most = tf.maximum(CHUNK_NUMBERS // tf.maximum(numbers, 1), 1)
    chunks = tf.maximum((candidates + most - 1) // most, 1)
    return chunks, (candidates + chunks - 1) // chunks


def in_chunks(
    function: Callable[..., tf.Tensor],
    tensors: Sequence[tf.Tensor],
    numbers: tf.Tensor,
    width: int | None = None,
) -> tf.Tensor:
    """Applies a function to a few candidates at a time, which suits scoring and not training.

    Args:
        function: of slices ``[users, some, ...]`` of the tensors, in their order, to
            ``[users, some, width]``; what it does with a candidate must not depend on others.
        tensors: ``[users, candidates, ...]``, all of the same users and candidates.
        numbers: scalar, numbers that the largest tensor in the function holds for each candidate.
        width: of the result, where it is known.

    Returns:
        ``[users, candidates, width]``, what the function gives for all candidates at once.
    """
    chunks, size = chunk_sizes(tf.shape(tensors[0])[1], numbers)

    def body(index: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        start = index * size
        result = function(*(part[:, start : start + size] for part in tensors))
        return index + 1, results.write(index, tf.transpose(result, [1, 0, 2]))

    results = tf.TensorArray(
        tensors[0].dtype, size=chunks, infer_shape=False, element_shape=[None, None, width]
    )
    _, results = tf.while_loop(
        lambda index, _: index < chunks, body, (tf.constant(0), results), parallel_iterations=1
    )
    return tf.transpose(results.concat(), [1, 0, 2])
