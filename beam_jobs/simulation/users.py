"""Users of the simulated log: how active they are, and their side fields."""

from __future__ import annotations

import dataclasses

import numpy as np

from beam_jobs.simulation.process import DAY_MS, EXPOSURE, START_MS, generator

AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55+")
COUNTRIES = ("BR", "DE", "FR", "GB", "IN", "JP", "MX", "US")
DEVICES = ("android", "ios", "web")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Users:
    """All users, arrays of ``[users]``.

    Attributes:
        user_id: int64 identifier.
        events: impressions of the user, at least 1.
        begin_ms: the user's first possible time.
        age_group, country, device: codes of ``AGE_GROUPS``, ``COUNTRIES``, ``DEVICES``.
        account_days: age of the account on the last day of the log.
        age_known, account_days_known: whether the user file has the value.
        listed: whether the user file has the user.
    """

    user_id: np.ndarray
    events: np.ndarray
    begin_ms: np.ndarray
    age_group: np.ndarray
    country: np.ndarray
    device: np.ndarray
    account_days: np.ndarray
    age_known: np.ndarray
    account_days_known: np.ndarray
    listed: np.ndarray


def draw_users(impressions: int, seed: int) -> Users:
    """Draws users until their events add up to ``impressions``; the last one gets the rest."""
    process, rng = EXPOSURE, generator(seed, 0)
    cap = max(1, int(impressions * process.events_cap_share))
    drawn: list[np.ndarray] = []
    while sum(int(part.sum()) for part in drawn) < impressions:
        size = 1_000 + impressions // 60
        logs = rng.normal(np.log(process.events_median), process.events_sigma, size)
        drawn.append(np.clip(np.rint(np.exp(logs)), 1, cap).astype(np.int64))
    events = np.concatenate(drawn)
    ends = np.cumsum(events)
    count = int(np.searchsorted(ends, impressions)) + 1
    events = events[:count]
    events[-1] -= ends[count - 1] - impressions

    late = rng.random(count) < process.late_joiners
    first_day = np.where(late, rng.uniform(0, process.days - 0.5, count), 0.0)
    joined_before = np.where(late, 0.0, rng.lognormal(5.5, 1.2, count))
    return Users(
        user_id=100_000 + rng.permutation(count).astype(np.int64),
        events=events,
        begin_ms=START_MS + (first_day * DAY_MS).astype(np.int64),
        age_group=rng.choice(len(AGE_GROUPS), count, p=[0.24, 0.31, 0.21, 0.14, 0.10]),
        country=rng.choice(
            len(COUNTRIES), count, p=[0.14, 0.07, 0.06, 0.08, 0.25, 0.09, 0.11, 0.20]
        ),
        device=rng.choice(len(DEVICES), count, p=[0.58, 0.32, 0.10]),
        account_days=np.floor(joined_before + process.days - first_day).astype(np.int64),
        age_known=rng.random(count) >= process.missing_age,
        account_days_known=rng.random(count) >= process.missing_account_days,
        listed=rng.random(count) >= process.absent_users,
    )
