"""Tests of the SequenceProfile's JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from schemas.profile import SequenceProfile

VALUES = {
    "examples": 10,
    "max_length": 50,
    "length_mean": 7.5,
    "length_std": 2.5,
    "length_quantiles": {"0.5": 7.0},
    "total_length_quantiles": {"0.5": 9.0},
    "items": 4,
    "samples_per_item": 2.5,
    "proposed_length_edges": [5, 10],
    "proposed_density_edges": [1, 3],
    "length_bucket_shares": {"0-4": 0.2, "5+": 0.8},
    "density_bucket_shares": {"0": 0.5, "1+": 0.5},
    "label_mean": 0.3,
}


def test_json_round_trip() -> None:
    profile = SequenceProfile(**VALUES)
    assert SequenceProfile.from_json(profile.to_json()) == profile
    assert dataclasses.asdict(profile) == VALUES


def test_missing_and_unknown_keys_are_named() -> None:
    values = {**VALUES, "surplus": 1}
    del values["items"]
    with pytest.raises(ValueError, match=r"'items'.*'surplus'"):
        SequenceProfile.from_json(json.dumps(values))
