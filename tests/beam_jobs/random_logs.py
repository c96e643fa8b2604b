"""Strategies that draw small logs full of ties, duplicates, gaps and strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.beam_jobs.job import DAY, anchors, impression

Row = dict[str, Any]
# Few and far between, so that users meet the same time again and again.
MOMENTS = [day * DAY + offset for day in range(1, 5) for offset in (-1, 0, 1, 3_600_000)]
# Their days begin at other hours, so that cuts and moments lie within days as well.
ZONES = ["UTC", "Asia/Shanghai", "Asia/Kathmandu"]
INT_IDS: list[Any] = [1, 2, 3, -7, 2**40]
STRING_IDS: list[Any] = ["b", "B", "é", "10", "9"]


@dataclass
class RawLog:
    """A log with its side files."""

    rows: list[Row]
    users: list[Row]
    items: list[Row]
    prior: list[Row]


def ids(kind: str) -> list[Any]:
    """A handful of identifiers whose order is not that of their hashes."""
    return STRING_IDS if kind == "string" else INT_IDS


@st.composite
def impressions(draw: st.DrawFn, kind: str, moments: Sequence[int] = MOMENTS) -> Row:
    """One row of the log; some cannot be used."""
    flag = st.sampled_from([0, 0, 1])
    row = impression(
        draw(st.sampled_from(ids(kind)[:4])),
        draw(st.sampled_from(ids(kind))),
        draw(st.sampled_from(moments)),
        draw(flag),
        liked=draw(flag),
        shared=draw(st.sampled_from([0, 0, 1, None])),
        hated=draw(flag),
        tab=draw(st.sampled_from([0, 1, -124, None])),
        price=draw(st.sampled_from([0.1, 2.0, None])),
    )
    spoilt = draw(st.sampled_from([None] * 20 + ["uid", "iid", "ts", "clicked", "unit", "two"]))
    if spoilt in row:
        row[spoilt] = None
    elif spoilt == "unit":
        row["ts"] //= 1000
    elif spoilt == "two":
        row["clicked"] = 2
    return row


@st.composite
def logs(draw: st.DrawFn, kind: str, moments: Sequence[int] = MOMENTS) -> RawLog:
    """A log whose splits all have both classes."""
    anchor = "anchor" if kind == "string" else 900
    rows = draw(st.lists(impressions(kind, moments), min_size=10, max_size=60))
    again = draw(st.lists(st.sampled_from(rows), max_size=5))
    # The same key once more with other flags: still a duplicate.
    other = [{**row, "liked": 1 - row["liked"]} for row in again[:2]]
    fixed = [*anchors(anchor, anchor), impression(anchor, anchor, 4 * DAY, 1)]
    rows = draw(st.permutations([*rows, *again, *other, *fixed]))
    items = st.lists(st.sampled_from(ids(kind)), max_size=5)
    prior = [
        {
            "uid": user,
            "seen": draw(items),
            "clicks": draw(st.one_of(st.none(), items)),
            "likes": draw(items),
            "total": draw(st.sampled_from([None, 0, 3, 100])),
        }
        # The last one has no row in the log.
        for user in draw(st.lists(st.sampled_from(ids(kind)), unique=True))
    ]
    users = [
        {
            "uid": user,
            "country": draw(st.sampled_from(["CN", "UNKNOWN", None])),
            "age": draw(st.sampled_from([30, -124, None])),
        }
        for user in draw(st.lists(st.sampled_from(ids(kind)), min_size=1))
    ]
    side = [
        {
            "iid": item,
            "category": draw(st.sampled_from([5, 6, None])),
            "title": draw(st.sampled_from(["x", "ü", None])),
            "weight": draw(st.sampled_from([0.25, None])),
        }
        for item in draw(st.lists(st.sampled_from([*ids(kind), anchor]), min_size=1))
    ]
    return RawLog(list(rows), users, side, prior)


def histories() -> st.SearchStrategy[dict[str, Any]]:
    """A history section, with lengths around which cuts fall."""
    protocols = ["positive_only", "click_only", "all_exposure", "typed_exposure"]
    return st.fixed_dictionaries(
        {
            "protocol": st.sampled_from(protocols),
            "max_length": st.sampled_from([1, 2, 5, 1000]),
            "freshness": st.sampled_from(["impression", "day"]),
        }
    )
