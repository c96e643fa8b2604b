"""Tests of picking the best-scored events."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.layers.retrieval import (
    gather_events,
    is_top_k,
    top_k_events,
    top_k_for_candidates,
)


def test_the_best_real_events_are_picked_best_first() -> None:
    scores = tf.constant([[9.0, 1.0, 3.0, 2.0]])
    positions, real = top_k_events(scores, tf.constant([[False, True, True, True]]), 2)
    assert np.array(positions).tolist() == [[2, 3]]
    assert np.array(real).tolist() == [[True, True]]


def test_of_equal_scores_the_most_recent_wins_whatever_the_padding() -> None:
    for padding in (0, 3):
        mask = tf.constant([[False] * padding + [True] * 4])
        positions, _ = top_k_events(tf.ones([1, padding + 4]), mask, 2)
        assert np.array(positions).tolist() == [[padding + 3, padding + 2]]


def test_padding_is_never_real_also_where_scores_are_negative() -> None:
    scores = tf.constant([[0.0, 0.0, -5.0], [7.0, 7.0, 7.0]])
    mask = tf.constant([[False, False, True], [False, False, False]])
    positions, real = top_k_events(scores, mask, 3)
    assert np.array(real).tolist() == [[True, False, False], [False, False, False]]
    assert int(positions[0, 0]) == 2


def test_a_history_shorter_than_the_count_gives_all_it_has() -> None:
    positions, real = top_k_events(tf.zeros([2, 3]), tf.ones([2, 3], tf.bool), 50)
    assert positions.shape == (2, 3)
    assert np.array(real).all()
    assert top_k_events(tf.zeros([2, 0]), tf.ones([2, 0], tf.bool), 50)[0].shape == (2, 0)


def test_events_are_gathered_row_by_row() -> None:
    history = tf.reshape(tf.range(12), [2, 3, 2])
    found = gather_events(history, tf.constant([[2, 0], [1, 1]]))
    assert np.array(found).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_many_candidates_choose_as_one_does() -> None:
    random = np.random.default_rng(0)
    # Small whole numbers: there are many equal scores, and products are exact.
    query, keys = (
        tf.constant(random.integers(-1, 2, size=(2, size, 3)).astype(np.float32)) for size in (4, 9)
    )
    mask = tf.constant([[False] * 6 + [True] * 3, [False] + [True] * 8])[:, None]
    for count in (1, 5, 50):
        scores = tf.matmul(query, keys, transpose_b=True)
        expected = sorted_events(*top_k_events(scores, mask, count))
        assert sorted_events(*top_k_for_candidates(query, keys, mask, count)) == expected
        marked = np.reshape(is_top_k(scores, mask, count), [8, -1])
        assert [np.flatnonzero(row).tolist() for row in marked] == expected


def test_long_histories_choose_as_short_ones_do() -> None:
    """There the hopeless events are sorted out first."""
    random = np.random.default_rng(2)
    real = np.array([0, 1, 3, 40, 69, 70])
    mask = tf.constant(np.arange(70) >= 70 - real[:, None])[:, None]
    for most in (1, 50):  # with many equal scores, and with few
        query, keys = (
            tf.constant(random.integers(-most, most + 1, size=(6, size, 2)).astype(np.float32))
            for size in (5, 70)
        )
        for count in (1, 2, 4):  # of 70, and so all of them are few enough
            scores = tf.matmul(query, keys, transpose_b=True)
            expected = sorted_events(*top_k_events(scores, mask, count))
            assert [len(found) for found in expected] == [
                min(count, length) for length in real for _ in range(5)
            ]
            assert sorted_events(*top_k_for_candidates(query, keys, mask, count)) == expected
            marked = np.reshape(is_top_k(scores, mask, count), [30, -1])
            assert [np.flatnonzero(row).tolist() for row in marked] == expected
    nobody = tf.zeros([0, 5, 70])
    assert is_top_k(nobody, tf.ones([0, 1, 70], tf.bool), 4).shape == (0, 5, 70)


def test_the_best_without_equals_are_marked_as_well() -> None:
    scores = tf.constant(np.random.default_rng(1).permutation(60).reshape(2, 30), tf.float32)
    positions, _ = top_k_events(scores, tf.ones([2, 30], tf.bool), 7)
    marked = np.array(is_top_k(scores, tf.ones([2, 30], tf.bool), 7))
    assert [np.flatnonzero(row).tolist() for row in marked] == np.sort(positions).tolist()
    assert is_top_k(tf.zeros([2, 0]), tf.ones([2, 0], tf.bool), 7).shape == (2, 0)


def sorted_events(positions: tf.Tensor, real: tf.Tensor) -> list[list[int]]:
    """The real positions of each row, in order."""
    width = positions.shape[-1]
    rows = zip(np.reshape(positions, [-1, width]), np.reshape(real, [-1, width]), strict=True)
    return [sorted(found[is_real].tolist()) for found, is_real in rows]
