"""Runs the layer tests again under the other version of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow import keras

ROOT = Path(__file__).resolve().parents[3]
LEGACY = "TF_USE_LEGACY_KERAS"
NESTED = "LENGTHWISE_NESTED_LAYER_TESTS"


def is_keras_2() -> bool:
    # Keras 3 calls itself keras._tf_keras.keras here.
    return keras.__name__.startswith("tf_keras")


def test_keras_is_the_version_asked_for() -> None:
    assert is_keras_2() is (os.environ.get(LEGACY) == "1")


@pytest.mark.skipif(NESTED in os.environ, reason="is itself the run under the other version")
@pytest.mark.timeout(900)
def test_the_same_files_pass_under_the_other_version() -> None:
    environment = {**os.environ, NESTED: "1", LEGACY: "0" if is_keras_2() else "1"}
    # conftest.py asks for Keras 2, and the options of pyproject.toml for several processes.
    command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "--noconftest"]
    options = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-q", "-x"]
    finished = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
