"""Tests of right alignment, against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.alignment import keep_events, right_align, right_aligned_mask

LISTS = st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=5)


@settings(max_examples=40)
@given(LISTS, st.integers(0, 8))
def test_right_align_equals_a_loop(lists: list[list[int]], width: int) -> None:
    ragged = tf.ragged.constant(lists, dtype=tf.int64, ragged_rank=1)
    expected = np.full([len(lists), width], -7)
    for row, values in enumerate(lists):
        kept = values[-width:] if width else []
        expected[row, width - len(kept) :] = kept
    found = right_align(ragged, tf.constant(width, tf.int64), padding=-7)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=40)
@given(LISTS, st.integers(0, 8))
def test_mask_is_true_at_events(lists: list[list[int]], width: int) -> None:
    ragged = tf.ragged.constant(lists, dtype=tf.int64, ragged_rank=1)
    mask = right_aligned_mask(ragged.row_lengths(), tf.constant(width, tf.int64))
    np.testing.assert_array_equal(mask, right_align(ragged, tf.constant(width)).numpy() > 0)


def test_strings_can_be_aligned() -> None:
    found = right_align(tf.ragged.constant([["a"], []]), tf.constant(2), padding=tf.constant(""))
    assert found.numpy().tolist() == [[b"", b"a"], [b"", b""]]


def test_kept_events_are_in_order_and_right_aligned() -> None:
    history = tf.reshape(tf.range(10.0), [2, 5, 1])
    mask = tf.constant([[False, True, True, True, True], [False, False, False, True, True]])
    wanted = tf.constant([[True, True, False, True, True], [True] * 3 + [False, True]])
    events, kept = keep_events(history, mask, wanted)
    assert kept.numpy().tolist() == [[True, True, True], [False, False, True]]
    assert events[0, :, 0].numpy().tolist() == [1, 3, 4]
    assert float(events[1, 2, 0]) == 9


@pytest.mark.parametrize("columns", [0, 3])
def test_rows_may_keep_no_event(columns: int) -> None:
    history, mask = tf.ones([2, columns, 4]), tf.ones([2, columns], tf.bool)
    events, kept = keep_events(history, mask, tf.zeros([2, columns], tf.bool))
    assert not kept.numpy().any()
    assert events.shape == (2, min(columns, 1), 4)
