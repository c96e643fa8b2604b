"""Tests of grouping candidates by user."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.layers.candidates import (
    group_by_user,
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
