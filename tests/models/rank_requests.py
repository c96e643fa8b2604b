"""Requests of the ``rank`` signature, and the examples that they stand for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.models import fixtures
from tests.models.fixtures import Row

OF_CANDIDATE = ("item_id", "category", "author")
OF_USER = ("user_id", "surface", "hour", "age", "history_length_total")
LISTS = ("history_item_id", "history_category", "history_action")

# Stands where no value counts; it is known, so that reading it would show.
FILLER = {"item_id": 3, "category": "c1", "author": 1}
FILLERS = {"history_item_id": 3, "history_category": "c1", "history_action": 1}


def make_users(
    lengths: list[int], counts: list[int], of_candidate: tuple[str, ...] = OF_CANDIDATE
) -> tuple[list[Row], list[list[Row]]]:
    """Users with histories of these lengths and rows of this many candidates for each."""
    rows = fixtures.make_rows(400, seed=2)
    users = [
        next(row for row in rows[20 * index :] if len(row["history_item_id"]) == length)
        for index, length in enumerate(lengths)
    ]
    pool = iter(rows[300:])
    candidates = [
        [{key: row[key] for key in of_candidate} for row in itertools.islice(pool, count)]
        for count in counts
    ]
    return users, candidates


def add_unknown_values(
    users: list[Row], candidates: list[list[Row]]
) -> tuple[list[Row], list[list[Row]]]:
    """Puts values of no vocabulary and missing ones into the last user and his candidates."""
    odd = [{"item_id": 10**6, "category": "odd", "author": 10**6}, {"author": -1, "category": ""}]
    last = {**users[-1], "user_id": 10**6, "surface": "nowhere", "age": None, "hour": -1}
    last["history_item_id"] = [9999, *last["history_item_id"]][: len(last["history_item_id"])]
    own = [{**row, **change} for row, change in zip(candidates[-1], odd, strict=False)]
    own += candidates[-1][len(odd) :]
    return [*users[:-1], last], [*candidates[:-1], own]


def expand(users: list[Row], candidates: list[list[Row]]) -> list[bytes]:
    """One serialized example for each candidate."""
    kept = (*OF_USER, *LISTS)
    return [
        fixtures.to_example({**{key: user[key] for key in kept}, **candidate})
        for user, own in zip(users, candidates, strict=True)
        for candidate in own
    ]


def to_request(
    users: list[Row],
    candidates: list[list[Row]],
    *,
    spare: int = 2,
    filler: Row = FILLER,
    fillers: Row = FILLERS,
) -> dict[str, list[Any]]:
    """The inputs of the signature, with ``spare`` columns of fillers that do not count."""
    events = max(len(user["history_item_id"]) for user in users) + spare
    columns = max(len(own) for own in candidates) + spare
    of_candidate = next((tuple(own[0]) for own in candidates if own), OF_CANDIDATE)
    request: dict[str, list[Any]] = {
        key: [user[key] for user in users]
        for key in OF_USER
        if key != "age" and key not in of_candidate
    }
    request["age"] = [np.nan if user["age"] is None else user["age"] for user in users]
    for key in LISTS:
        request[key] = [user[key] + [fillers[key]] * (events - len(user[key])) for user in users]
    for key in of_candidate:
        request[key] = [
            [row[key] for row in own] + [filler[key]] * (columns - len(own)) for own in candidates
        ]
    request["history_length"] = [len(user["history_item_id"]) for user in users]
    request["candidate_count"] = [len(own) for own in candidates]
    return request


def by_user(scores: np.ndarray, candidates: list[list[Row]], *, spare: int = 2) -> np.ndarray:
    """Scores of the expanded examples as the signature gives them, [users, candidates]."""
    counts = [len(own) for own in candidates]
    found = np.zeros([len(counts), max(counts) + spare])
    pieces = np.split(scores, np.cumsum(counts)[:-1])
    for row, piece in zip(found, pieces, strict=True):
        row[: len(piece)] = piece
    return found
