from __future__ import annotations

from typing import Any

import pytest

from schemas import features
from schemas.dataset import SHIPPED, DatasetDescription, load_description
from schemas.loading import ConfigError, build, to_plain

VALUES: dict[str, Any] = {
    "name": "tiny",
    "log": {"files": ["*.parquet"]},
    "user": {"column": "u"},
    "item": {"column": "i"},
    "time": {"column": "t", "years": [2024, 2024]},
    "label": {"column": "y"},
    "actions": [{"name": "click", "when": ["y"]}, {"name": "exposure"}],
    "split": {"validation": "1d", "test": "1d"},
}


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_descriptions_survive_a_round_trip(path: Any) -> None:
    description = load_description(path.stem)
    assert description.name == path.stem
    assert build(DatasetDescription, to_plain(description), where="again") == description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"usr": 1}, "usr: unknown key"),
        ({"time": {"column": "t"}}, r"time\.years: this key is required"),
        ({"time": {"column": "t", "years": [2025, 2024]}}, "years"),
        ({"user": {"column": "u", "type": "float"}}, "int or string, not float"),
        ({"log": {"files": ["x"], "timezone": "Mars"}}, "timezone 'Mars' is not known"),
        (
            {"log": {"files": ["x"], "timezone": "America"}},
            "timezone 'America' is not known; an IANA name such as Asia/Shanghai is accepted",
        ),
        ({"context": [{"name": "label"}]}, "taken by the feature contract"),
        ({"context": [{"name": "dwell", "column": "y"}]}, "can never be an input"),
        ({"outcomes": ["w"], "context": [{"name": "w"}]}, "can never be an input"),
        ({"context": [{"name": "time", "column": "t"}]}, r"context \['time'\]: columns of every"),
        ({"context": [{"name": "a"}, {"name": "a"}]}, r"used twice: \['a'\]"),
        ({"context": [{"name": "a", "per": "user"}]}, "per: .*'request' or 'candidate'"),
        (
            {
                "context": [
                    {"name": "h", "type": "int", "derive": "hour_of_day", "per": "candidate"}
                ]
            },
            "derived from the time is per request",
        ),
        (
            {
                "side": {
                    "item": {
                        "files": ["i"],
                        "key": "i",
                        "fields": [{"name": "a", "per": "candidate"}],
                    }
                }
            },
            r"fields \['a'\]: per is for context fields",
        ),
        (
            {"prior_history": {"files": ["p"], "key": "u", "sequences": []}},
            "prior_history: sequences: at least one is expected",
        ),
        (
            {
                "prior_history": {
                    "files": ["p"],
                    "key": "u",
                    "sequences": [{"column": "c", "action": "click", "label": 2}],
                }
            },
            "label 2: 0, 1 or null is accepted",
        ),
        ({"history_fields": ["tag"]}, "no such item fields"),
        (
            {
                "side": {
                    "item": {
                        "files": ["i"],
                        "key": "i",
                        "fields": [{"name": "price", "type": "float"}],
                    }
                },
                "history_fields": ["price"],
            },
            r"history_fields \['price'\]: events carry categories; int or string is accepted",
        ),
        (
            {
                "side": {
                    "user": {
                        "files": ["u"],
                        "key": "u",
                        "fields": [{"name": "h", "type": "int", "derive": "hour_of_day"}],
                    }
                }
            },
            r"fields \['h'\]: derive is for context fields",
        ),
        ({"actions": [{"name": "click", "when": ["y"]}]}, "exactly the last type"),
        ({"label": {"constant": 1}}, "needs a negatives section"),
        (
            {
                "label": {"constant": 1},
                "negatives": {},
                "context": [{"name": "price", "type": "float", "per": "candidate"}],
            },
            r"context \['price'\]: a sampled negative would have the value of the item",
        ),
        ({"label": {}}, "give either column or constant"),
        ({"negatives": {}}, "only for a log of positives"),
        ({"split": {"validation": "1d"}}, "not a mix"),
        ({"drop": [{"column": "c", "reason": "r", "not_matching": "("}]}, "not_matching"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DatasetDescription, VALUES | changes, where="test")


def test_an_unknown_description_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="kuairand_pure, online_retail, simulated"):
        load_description("movies")


def test_buckets_are_named_by_their_bounds() -> None:
    assert features.bucket_names([10, 20]) == ["0-9", "10-19", "20+"]
    assert features.bucket_names([1, 2]) == ["0", "1", "2+"]
