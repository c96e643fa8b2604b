"""Tests of what a summary says of the buckets that could not refuse a model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.commands import run
from pipeline.config import RunConfig
from pipeline.summary import Summary, find_not_judged
from schemas.loading import build

SLICES: dict[str, dict[str, Any]] = {
    "length_bucket:0-9": {"example_count": 99, "auc": 0.9, "invalid_scores": 0},
    "length_bucket:10+": {"example_count": 1_100, "auc": 0.6, "invalid_scores": 0},
    "density_bucket:0-4": {"example_count": 1_199, "auc": None, "invalid_scores": 0},
    "length_bucket:0-9,density_bucket:0-4": {"example_count": 99, "auc": None},
}


def configure(**evaluation: Any) -> RunConfig:
    data = {"dataset": "d", "path": "p", "length_edges": [10], "density_edges": [5]}
    values = {"run": {"root": "r"}, "data": data, "evaluation": evaluation}
    return build(RunConfig, values, where="test")


def test_small_empty_and_undefined_buckets_are_named() -> None:
    assert find_not_judged(SLICES, configure(min_slice_size=100)) == {
        "length_bucket:0-9": "99 examples",
        "density_bucket:0-4": "auc undefined",
        "density_bucket:5+": "0 examples",
    }
    assert "length_bucket:0-9" not in find_not_judged(SLICES, configure(min_slice_size=99))


def test_what_a_broken_model_leaves_undefined_is_judged() -> None:
    slices = {"density_bucket:0-4": {"example_count": 1_199, "auc": None, "invalid_scores": 3}}
    assert "density_bucket:0-4" not in find_not_judged(slices, configure(min_slice_size=100))


@pytest.mark.parametrize("slices", [SLICES, {}])
def test_nothing_is_named_where_nothing_is_looked_at(slices: dict[str, Any]) -> None:
    thresholds = {} if slices else {"auc": {"min": 0.5}}
    assert find_not_judged(slices, configure(slice_thresholds=thresholds)) == {}


def test_a_model_that_was_compared_with_none_says_so() -> None:
    config = configure(slice_thresholds={})
    reason = {"max_worsening": "no other blessed model of run.name 'lengthwise'"}
    assert find_not_judged(SLICES, config, compared=False) == reason
    assert find_not_judged(SLICES, config, compared=True) == {}
    # Where nothing is to be compared, or was evaluated, there is nothing to miss.
    config = configure(slice_thresholds={}, max_worsening={})
    assert find_not_judged(SLICES, config, compared=False) == {}
    assert find_not_judged({}, configure(), compared=False) == {}


def test_a_refusal_speaks_of_no_model_that_there_may_not_be() -> None:
    text = io.StringIO()
    summary = Summary(status="not_blessed", refusals=["auc 0.5 overall is below 0.6"])
    run._report(summary, Console(file=text, width=80), "1 min 0 s", Path("log"))
    assert text.getvalue().splitlines() == [
        "refused: auc 0.5 overall is below 0.6",
        "not blessed after 1 min 0 s: nothing is pushed, what served before stays",
    ]
