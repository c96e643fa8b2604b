"""Tests of the layers' options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.layers.config import (
    HyformerBlockConfig,
    LengthModulation,
    MixformerBlockConfig,
    OneTransBlockConfig,
    SpectralLengthEncoderConfig,
    conditioning_dim,
    plain,
    read,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "config",
    [
        SpectralLengthEncoderConfig(max_length=9, length_input="log1p"),
        LengthModulation(mean_length=1.0, length_deviation=2.0),
        HyformerBlockConfig(modulation=LengthModulation(mean_length=1.0, length_deviation=2.0)),
        MixformerBlockConfig(dropout=0.5),
        OneTransBlockConfig(activation="gelu", sequence_queries=3),
    ],
)
def test_options_come_back_from_plain_values(config: object) -> None:
    assert read(type(config), plain(config)) == config


def test_the_length_vector_is_seen_only_with_conditioning() -> None:
    settings = {"mean_length": 1.0, "length_deviation": 2.0, "length_dim": 7}
    assert conditioning_dim(LengthModulation(**settings)) == 7
    assert conditioning_dim(LengthModulation(**settings, query_key_conditioning=False)) == 0
    assert conditioning_dim(None) == 0


def test_options_are_read_without_tensorflow() -> None:
    code = "import sys, models.backbones.config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
