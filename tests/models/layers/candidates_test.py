"""Tests of grouping candidates by user."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.layers.candidates import (
    CHUNK_NUMBERS,
    group_by_user,
    in_chunks,
    merge_queries,
    repeat_for_candidates,
    split_queries,
    ungroup,
)


def test_consecutive_rows_belong_to_one_user_and_come_back_in_order() -> None:
    rows = tf.reshape(tf.range(12), [6, 2])
    grouped = group_by_user(rows, tf.constant(2))
    assert grouped.shape == (2, 3, 2)
    assert np.array(grouped[1, 0]).tolist() == [6, 7]
    np.testing.assert_array_equal(ungroup(grouped), rows)


def test_queries_of_all_candidates_stand_side_by_side() -> None:
    queries = tf.random.normal([6, 4, 5])
    merged = merge_queries(queries, tf.constant(2))
    assert merged.shape == (2, 12, 5)
    np.testing.assert_array_equal(merged[1, 4:8], queries[4])
    np.testing.assert_array_equal(split_queries(merged, 4), queries)


@pytest.mark.parametrize("users", [0, 2])
def test_a_user_s_row_is_repeated_for_his_candidates(users: int) -> None:
    repeated = repeat_for_candidates(tf.ones([users, 3]), tf.ones([users * 4, 5]))
    assert repeated.shape == (users * 4, 3)


def test_no_rows_are_no_trouble() -> None:
    assert ungroup(group_by_user(tf.zeros([0, 4]), tf.constant(0))).shape == (0, 4)
    assert split_queries(merge_queries(tf.zeros([0, 4, 5]), tf.constant(0)), 4).shape == (0, 4, 5)


@pytest.mark.parametrize("candidates", [0, 1, 5])
@pytest.mark.parametrize("numbers", [0, CHUNK_NUMBERS // 2, 3 * CHUNK_NUMBERS])
def test_chunks_of_candidates_give_what_all_at_once_do(candidates: int, numbers: int) -> None:
    random = np.random.default_rng(0)
    first, second = (
        tf.constant(random.normal(size=(2, candidates, width)).astype(np.float32))
        for width in (3, 4)
    )

    def join(*parts: tf.Tensor) -> tf.Tensor:
        return tf.concat(parts, axis=-1)

    found = in_chunks(join, [first, second], tf.constant(numbers), 7)
    np.testing.assert_array_equal(found, join(first, second))


def test_chunks_are_as_small_as_asked_also_when_traced() -> None:
    sizes: list[int] = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, 2])])
    def traced(tensor: tf.Tensor) -> tf.Tensor:
        def note(part: tf.Tensor) -> tf.Tensor:
            tf.py_function(lambda size: sizes.append(int(size)), [tf.shape(part)[1]], [])
            return 2 * part

        return in_chunks(note, [tensor], tf.constant(CHUNK_NUMBERS // 2))

    np.testing.assert_array_equal(traced(tf.ones([1, 5, 2])), 2 * np.ones([1, 5, 2]))
    assert sizes == [2, 2, 1]
