"""Packed batches against the same impressions one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.packing import reads_windows
from models.plan import FIELDS, WINDOW_END, WINDOW_START, RankerPlan
from schemas import features
from tests.models import family_members
from tests.models.family_members import Section, config_of
from tests.models.family_test import gradients, make_ranker
from tests.models.ranker_test import make_batch

# Windows of five records: all the same, growing and sliding, one alone, empty ones, a full list.
WINDOWS: list[list[tuple[int, int]]] = [
    [(0, 3), (0, 3)],
    [(0, 6), (0, 7), (0, 8), (2, 10), (4, 12)],
    [(0, 5)],
    [(0, 0), (0, 0), (0, 2)],
    [(0, 1), (0, 8), (0, 8)],
]
ROWS = sum(map(len, WINDOWS))
LENS: Section = {"position": "query_specific", "lens": {"rank": 2, "source": "item_and_sequence"}}
SHARED: dict[str, Section] = {
    "hyformer": {"backbone": "hyformer"},
    "hyformer-lens": {"backbone": "hyformer", **LENS},
    "hyformer-global-encoded": {
        "backbone": "hyformer", "position": "global", "lens": {"rank": 2, "source": "item"},
        "hyformer": {**family_members.SMALL["hyformer"], "encode_sequence": True, "side_tokens": 2},
    },
    "din": {"backbone": "din", "embedding_l2": 0.1, "action_fusion": "concat"},
    "din-dice": {
        "backbone": "din", "attention_activation": "dice", "attention_batch_norm": True,
        "length_groups": 1,
    },
    "twin": {"backbone": "twin"},
}  # fmt: skip
FALLBACKS: dict[str, Section] = {
    name: section
    for name, section in family_members.one_of_each().items()
    if not reads_windows(config_of(section))
}
FALLBACKS["hyformer-absolute"] = {"backbone": "hyformer", "position": "absolute"}
FALLBACKS["hyformer-two"] = {"backbone": "hyformer", "second_history": ["click"]}


def make_pair(plan: RankerPlan, windows: list[list[tuple[int, int]]] = WINDOWS) -> Any:
    """A packed batch, and the same impressions with histories of their own."""
    random = np.random.default_rng(3)
    rows = [(record, *window) for record, own in enumerate(windows) for window in own]
    batch = make_batch([end - start for _, start, end in rows])
    batch[FIELDS] = batch[FIELDS][:, : len(plan.categories)]
    batch["numbers"] = batch["numbers"][:, : len(plan.numbers)]
    unions = [max(end for _, end in own) for own in windows]
    packed = dict(batch)
    for name in plan.history_lists:
        high = 3 if name == features.HISTORY_ACTION else 6
        lists = [random.integers(1, high, length) for length in unions]
        own = [lists[record][start:end] for record, start, end in rows]
        batch[name] = ragged(own)
        packed[name] = ragged(lists)
    packed[WINDOW_START] = ragged([[start for start, _ in own] for own in windows])
    packed[WINDOW_END] = ragged([[end for _, end in own] for own in windows])
    return packed, batch


def ragged(lists: list[Any]) -> tf.RaggedTensor:
    values = np.concatenate([np.asarray(part, np.int64) for part in lists])
    return tf.RaggedTensor.from_row_lengths(
        tf.constant(values, tf.int64), tf.constant([len(part) for part in lists], tf.int64)
    )


def check_equal(section: Section) -> None:
    ranker = make_ranker(section)
    packed, batch = make_pair(ranker.plan)
    np.testing.assert_allclose(ranker(packed), ranker(batch), rtol=1e-4, atol=1e-5)
    loss, expected = (float(ranker.compute_loss(each)) for each in (packed, batch))
    assert loss == pytest.approx(expected, rel=1e-5)
    pairs = zip(
        ranker.trainable_variables,
        gradients(ranker, packed, training=False),
        gradients(ranker, batch, training=False),
        strict=True,
    )
    for weight, found, wanted in pairs:
        scale = max(float(np.abs(wanted).max()), 1e-3)
        np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-5, err_msg=weight.name)


@pytest.mark.parametrize("name", SHARED)
def test_shared_events_give_the_loss_and_gradient_of_single_impressions(name: str) -> None:
    assert reads_windows(config_of(SHARED[name]))
    check_equal(SHARED[name])


@pytest.mark.parametrize("name", FALLBACKS)
def test_other_models_get_the_events_of_each_impression(name: str) -> None:
    assert not reads_windows(config_of(FALLBACKS[name]))
    check_equal(FALLBACKS[name])
