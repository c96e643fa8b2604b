"""Tests of right alignment, against a slow loop."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from models.alignment import right_align, right_aligned_mask

LISTS = st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=5)


@given(LISTS, st.integers(0, 8))
def test_right_align_equals_a_loop(lists: list[list[int]], width: int) -> None:
    ragged = tf.ragged.constant(lists, dtype=tf.int64, ragged_rank=1)
    expected = np.full([len(lists), width], -7)
    for row, values in enumerate(lists):
        kept = values[-width:] if width else []
        expected[row, width - len(kept) :] = kept
    found = right_align(ragged, tf.constant(width, tf.int64), padding=-7)
    np.testing.assert_array_equal(found, expected)


@given(LISTS, st.integers(0, 8))
def test_mask_is_true_at_events(lists: list[list[int]], width: int) -> None:
    ragged = tf.ragged.constant(lists, dtype=tf.int64, ragged_rank=1)
    mask = right_aligned_mask(ragged.row_lengths(), tf.constant(width, tf.int64))
    np.testing.assert_array_equal(mask, right_align(ragged, tf.constant(width)).numpy() > 0)


def test_strings_can_be_aligned() -> None:
    found = right_align(tf.ragged.constant([["a"], []]), tf.constant(2), padding=tf.constant(""))
    assert found.numpy().tolist() == [[b"", b"a"], [b"", b""]]
