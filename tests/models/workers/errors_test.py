"""Tests of what an error of a training says in one line."""

from __future__ import annotations

import pytest
import tensorflow as tf

from models.workers.errors import first_words


def test_the_first_line_of_a_text_is_its_words() -> None:
    assert first_words("\nno disk \nand pages on it") == "no disk"
    assert first_words("") == ""
    assert first_words("Graph execution error:\n") == "Graph execution error:"


def test_an_error_in_a_graph_is_told_without_where_in_the_graph_it_was() -> None:
    @tf.function
    def read(rows: tf.Tensor) -> tf.Tensor:
        tf.debugging.assert_less(rows, 5, message="an index lies outside its rows")
        return tf.identity(rows)

    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        read(tf.constant([7]))
    assert str(found.value).startswith("Graph execution error")
    assert "an index lies outside its rows" in first_words(str(found.value))
