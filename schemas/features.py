"""The feature contract: the names every part of Lengthwise uses, in plain Python.

One example is one impression. Its features are

==========================  ==========  ====================================================
name                        type        meaning
==========================  ==========  ====================================================
``label``                   int64       1 clicked, 0 not
``user_id``, ``item_id``    int64/bytes as the dataset description types them
``timestamp``               int64       milliseconds since 1970-01-01 UTC
context and side fields     by type     one value; a missing category is -1 or ``b""``,
                                        a missing number is an absent value
``history_item_id``         list        items of strictly earlier events, oldest first
``history_action``          int64 list  action type of each, 1-based as described
``history_<item field>``    list        item fields carried with each event
``history_length``          int64       events kept, at most ``max_length``
``history_length_total``    int64       events known, before the cut to ``max_length``
``item_train_count``        int64       training samples of the target item, 0 if unseen
``length_bucket``           bytes       bucket of ``history_length``, for slices
``density_bucket``          bytes       bucket of ``item_train_count``, for slices
==========================  ==========  ====================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

LABEL = "label"
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
HISTORY_PREFIX = "history_"
HISTORY_ITEM_ID = "history_item_id"
HISTORY_ACTION = "history_action"
HISTORY_LENGTH = "history_length"
HISTORY_LENGTH_TOTAL = "history_length_total"
ITEM_TRAIN_COUNT = "item_train_count"
LENGTH_BUCKET = "length_bucket"
DENSITY_BUCKET = "density_bucket"

TRAIN_SPLIT = "train"
VALIDATION_SPLIT = "validation"
TEST_SPLIT = "test"
SPLITS = (TRAIN_SPLIT, VALIDATION_SPLIT, TEST_SPLIT)

# Density counts the row's own and later clicks: for slices and the LENS condition source only.
NEVER_INPUTS = frozenset({LABEL, ITEM_TRAIN_COUNT, DENSITY_BUCKET})

RESERVED = frozenset(
    {
        LABEL,
        USER_ID,
        ITEM_ID,
        TIMESTAMP,
        HISTORY_ITEM_ID,
        HISTORY_ACTION,
        HISTORY_LENGTH,
        HISTORY_LENGTH_TOTAL,
        ITEM_TRAIN_COUNT,
        LENGTH_BUCKET,
        DENSITY_BUCKET,
    }
)

MISSING_INT = -1
MISSING_STRING = ""


def history_feature(item_field: str) -> str:
    """Returns the name of the history list that carries ``item_field``."""
    return HISTORY_PREFIX + item_field


def bucket_names(edges: Sequence[int]) -> list[str]:
    """Names the buckets that ``edges`` cut the whole numbers from 0 into.

    Args:
        edges: strictly increasing lower bounds of all buckets but the first.

    Returns:
        One name a bucket, such as ``["0-9", "10-19", "20+"]`` for ``[10, 20]``.
    """
    bounds = [0, *edges]
    names = [
        f"{low}-{high - 1}" if high - 1 > low else f"{low}"
        for low, high in itertools.pairwise(bounds)
    ]
    return [*names, f"{bounds[-1]}+"]
