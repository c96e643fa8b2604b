"""Runs the example in the docstring of every layer."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow import keras

FOLDER = Path(__file__).resolve().parents[3] / "models" / "layers"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_right(name: str) -> None:
    module = importlib.import_module(f"models.layers.{name}")
    layers = [
        found
        for found in vars(module).values()
        if inspect.isclass(found)
        and issubclass(found, keras.layers.Layer)
        and found.__module__ == module.__name__
    ]
    finder = doctest.DocTestFinder()
    for layer in layers:
        examples = finder.find(layer, globs={**vars(module), "tf": tf})
        assert any(part.examples for part in examples), f"{layer.__name__} has no example"
        for part in examples:
            assert doctest.DocTestRunner(verbose=False).run(part).failed == 0
