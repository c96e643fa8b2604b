"""Tests of the feature contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import features


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ([], ["0+"]),
        ([1], ["0", "1+"]),
        ([10, 20], ["0-9", "10-19", "20+"]),
        ([1, 2, 5], ["0", "1", "2-4", "5+"]),
    ],
)
def test_bucket_names(edges: list[int], names: list[str]) -> None:
    assert features.bucket_names(edges) == names


@given(st.sets(st.integers(1, 10_000), max_size=12))
def test_buckets_cover_the_whole_numbers_once(edges: set[int]) -> None:
    names = features.bucket_names(sorted(edges))
    covered = []
    for name in names[:-1]:
        low, _, high = name.partition("-")
        covered += [int(low), int(high or low)]
    starts, ends = covered[::2], covered[1::2]
    assert [0, *[end + 1 for end in ends]] == [*starts, int(names[-1].removesuffix("+"))]


def test_density_and_label_are_never_inputs() -> None:
    assert {features.LABEL, features.ITEM_TRAIN_COUNT, features.DENSITY_BUCKET} == set(
        features.NEVER_INPUTS
    )
