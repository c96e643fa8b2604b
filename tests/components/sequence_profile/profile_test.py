from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.sequence_profile.profile import (
    ProfileCounts,
    ValueCounts,
    make_profile,
    propose_edges,
)
from schemas.profile import SequenceProfile

ROW = st.tuples(
    st.integers(0, 30),
    st.integers(0, 2000),
    st.integers(1, 9),
    st.integers(0, 6),
    st.integers(0, 1),
)
PROPERTIES = {"length_edges": [1, 10], "density_edges": [3, 6], "max_length": 30}


def _count(rows: list[tuple[int, ...]]) -> ProfileCounts:
    lengths, totals, densities, items, labels = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return ProfileCounts.of(
        lengths=lengths,
        total_lengths=totals,
        densities=densities,
        items=items.astype(np.uint64),
        labels=labels,
    )


@given(st.lists(ROW, min_size=1, max_size=60), st.data())
def test_any_sharding_gives_the_statistics_of_all_rows(
    rows: list[tuple[int, ...]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    parts = [rows[low:high] for low, high in itertools.pairwise([0, *cuts, len(rows)])]
    shards = data.draw(st.permutations([_count(part) for part in parts if part]))
    merged = ProfileCounts().merge(*(pickle.loads(pickle.dumps(shard)) for shard in shards))

    profile = make_profile(merged, **PROPERTIES)

    lengths, totals, densities, items, labels = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    assert profile.examples == len(rows)
    assert profile.length_mean == pytest.approx(lengths.mean())
    assert profile.length_std == pytest.approx(max(lengths.std(), 1e-6), abs=1e-9)
    for share, value in profile.length_quantiles.items():
        assert value == np.quantile(lengths, float(share), method="inverted_cdf")
    for share, value in profile.total_length_quantiles.items():
        assert value == np.quantile(totals, float(share), method="inverted_cdf")
    assert profile.items == len(set(items.tolist()))
    assert profile.samples_per_item == pytest.approx(len(rows) / profile.items)
    assert profile.length_bucket_shares == pytest.approx(
        {
            "0": np.mean(lengths == 0),
            "1-9": np.mean((lengths >= 1) & (lengths < 10)),
            "10+": np.mean(lengths >= 10),
        }
    )
    assert profile.density_bucket_shares == pytest.approx(
        {
            "0-2": np.mean(densities < 3),
            "3-5": np.mean((densities >= 3) & (densities < 6)),
            "6+": np.mean(densities >= 6),
        }
    )
    assert profile.label_mean == pytest.approx(labels.mean())
    assert SequenceProfile.from_json(profile.to_json()) == profile


def test_one_length_alone_has_a_positive_deviation() -> None:
    assert make_profile(_count([(5, 5, 1, 1, 1)]), **PROPERTIES).length_std == 1e-6


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="the training split is empty"):
        make_profile(ProfileCounts(), **PROPERTIES)


def test_proposed_edges_are_readable_and_about_equal() -> None:
    random = np.random.default_rng(3)
    lengths = np.minimum(random.geometric(1 / 60, 50_000) - 1, 1000)
    counts = ValueCounts.of(lengths)

    edges = propose_edges(counts, 6)

    assert len(edges) == 5
    assert edges == sorted(set(edges))
    shares = counts.shares(edges)
    assert min(shares.values()) > 0.1
    assert max(shares.values()) < 0.25
    for edge in edges:
        digits = str(edge).rstrip("0")
        assert len(digits) == 1 or digits in ("15", "25")


def test_proposed_edges_of_one_value_are_none_or_1() -> None:
    assert propose_edges(ValueCounts.of(np.zeros(10, np.int64)), 6) == []
    assert propose_edges(ValueCounts.of(np.repeat([0, 100], [60, 40])), 4) == [1, 100]


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=100), st.integers(1, 10))
def test_proposed_edges_are_always_edges(values: list[int], buckets: int) -> None:
    edges = propose_edges(ValueCounts.of(np.array(values)), buckets)

    assert len(edges) < buckets
    assert edges == sorted(set(edges))
    assert all(1 <= edge <= max(values) for edge in edges)
