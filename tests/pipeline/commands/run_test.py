"""Tests of what a run says of an error."""

from __future__ import annotations

import pytest
import tensorflow as tf

from pipeline.commands.run import message_of


class Inner(tf.keras.layers.Layer):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        raise TypeError("two arguments are missing")


class Outer(tf.keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.inner(inputs)


def test_an_error_of_a_traced_function_is_told_without_its_wrapping() -> None:
    with pytest.raises(TypeError, match="in user code:") as found:
        tf.function(Outer())(tf.zeros([1]))
    assert message_of(found.value) == "TypeError: two arguments are missing"


def test_the_first_line_of_another_error_is_told() -> None:
    assert message_of(ValueError("a fault\nand pages on it")) == "ValueError: a fault"
