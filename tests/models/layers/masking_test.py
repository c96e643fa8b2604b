"""Tests of softmax and mean over the events that exist."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.layers.masking import masked_mean, masked_softmax


def test_softmax_by_hand() -> None:
    logits = tf.constant([[5.0, 0.0, np.log(3.0)]])
    weights = masked_softmax(logits, tf.constant([[False, True, True]]))
    np.testing.assert_allclose(weights, [[0.0, 0.25, 0.75]], atol=1e-7)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_softmax_without_events_is_zero_with_finite_gradient(dtype: tf.DType) -> None:
    logits = tf.cast([[1.0, 2.0], [3.0, 4.0]], dtype)
    mask = tf.constant([[False, False], [False, True]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weights = masked_softmax(logits, mask)
        total = tf.reduce_sum(weights * [[1.0, 2.0]])
    assert weights.dtype == tf.float32
    np.testing.assert_array_equal(weights, [[0, 0], [0, 1]])
    assert np.isfinite(tf.cast(tape.gradient(total, logits), tf.float32)).all()


def test_softmax_ignores_what_is_masked_out() -> None:
    mask = tf.constant([[False, True, True]])
    one = masked_softmax(tf.constant([[0.0, 1.0, 2.0]]), mask)
    other = masked_softmax(tf.constant([[1e30, 1.0, 2.0]]), mask)
    np.testing.assert_array_equal(one, other)


def test_mean_by_hand_and_without_events() -> None:
    values = tf.constant([[[9.0], [1.0], [3.0]], [[9.0], [9.0], [9.0]]])
    mask = tf.constant([[False, True, True], [False, False, False]])
    np.testing.assert_array_equal(masked_mean(values, mask), [[2.0], [0.0]])


def test_mean_ignores_what_is_masked_out_even_if_it_is_no_number() -> None:
    values = tf.constant([[[np.nan], [4.0]]])
    np.testing.assert_array_equal(masked_mean(values, tf.constant([[False, True]])), [[4.0]])
