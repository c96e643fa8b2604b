"""Groups are those of least padding, by a search that knows nothing of how they are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.length_groups import cut_by_length, padded_events


def least_padding(lengths: list[int], groups: int) -> int:
    """Positions of the best of all ways to cut the ordered rows."""
    ordered, rows = sorted(lengths), len(lengths)
    found = []
    for inner in itertools.combinations_with_replacement(range(rows + 1), groups - 1):
        cuts = itertools.pairwise((0, *inner, rows))
        found.append(
            sum((end - begin) * max(1, *ordered[begin:end]) for begin, end in cuts if end > begin)
        )
    return min(found)


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_no_other_cuts_have_less_padding(seed: int, groups: int) -> None:
    random = np.random.default_rng(seed)
    lengths = [int(length) for length in random.geometric(0.1, size=7 + seed) - 1]
    order, cuts = (part.numpy() for part in cut_by_length(tf.constant(lengths), groups))
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)
    assert (cuts[0], cuts[-1]) == (0, len(lengths))
    assert (np.diff(cuts) >= 0).all()
    found = padded_events(tf.constant(lengths, tf.int64), groups)
    assert int(found) == least_padding(lengths, groups)


def test_large_batches_come_near_the_least() -> None:
    lengths = np.random.default_rng(0).lognormal(np.log(60), 1.71, 1_024).clip(1, 1_000).round()
    best = _best_of_all(np.sort(lengths), groups=8)
    found = int(padded_events(tf.constant(lengths, tf.int64), 8))
    assert best <= found < 1.01 * best
    even = sum(128 * part[-1] for part in np.split(np.sort(lengths), 8))
    assert found < 0.93 * even


def _best_of_all(ordered: np.ndarray, groups: int) -> float:
    """The same recursion, over all rows, a group and an end at a time."""
    rows = len(ordered)
    least = np.array([0.0, *(np.arange(1, rows + 1) * ordered)])
    for _ in range(groups - 1):
        before = least
        least = np.array(
            [0.0]
            + [
                (before[: end + 1] + (end - np.arange(end + 1)) * ordered[end - 1]).min()
                for end in range(1, rows + 1)
            ]
        )
    return float(least[-1])


@pytest.mark.parametrize(
    ("lengths", "groups", "expected"),
    [
        ([5, 1, 2, 8], 1, [4]),
        ([5, 1, 2, 8], 2, [2, 2]),
        ([5, 1, 2, 8], 4, [1, 1, 1, 1]),
        ([1, 1, 1, 1, 50], 2, [4, 1]),
        ([7, 7, 7], 2, [0, 3]),
        ([7, 3], 4, [0, 0, 1, 1]),
        ([], 2, [0, 0]),
    ],
)
def test_sizes_follow_the_lengths(lengths: list[int], groups: int, expected: list[int]) -> None:
    found = cut_by_length(tf.constant(lengths, tf.int64), groups)
    assert [len(found.rows(group)) for group in range(groups)] == expected


@pytest.mark.parametrize(
    ("lengths", "groups", "expected"),
    [([5, 1, 2, 8], 2, 2 * 2 + 2 * 8), ([0, 0, 0], 2, 3), ([7, 3], 4, 10), ([], 2, 0)],
)
def test_a_row_takes_a_position_at_least(lengths: list[int], groups: int, expected: int) -> None:
    assert int(padded_events(tf.constant(lengths, tf.int64), groups)) == expected
