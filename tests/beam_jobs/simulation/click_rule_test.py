"""The click rule of the simulated log against a slow reading of its documentation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

from beam_jobs.simulation.catalogue import Catalogue, draw_catalogue
from beam_jobs.simulation.click_rule import RULE
from beam_jobs.simulation.effects import Effects, draw_effects
from beam_jobs.simulation.exposures import Exposures, draw_exposures
from beam_jobs.simulation.outcomes import Outcomes, draw_outcomes
from beam_jobs.simulation.process import EXPOSURE, generator
from beam_jobs.simulation.users import draw_users
from beam_jobs.simulation.writing import auc


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A block of the log with all that is behind it."""

    catalogue: Catalogue
    effects: Effects
    exposures: Exposures
    outcomes: Outcomes


def draw(impressions: int, seed: int = 1) -> Drawn:
    users, catalogue = draw_users(impressions, seed), draw_catalogue(impressions, seed)
    effects = draw_effects(users, catalogue, seed)
    rng = generator(seed, 3, 0)
    exposures = draw_exposures(users, 0, users.user_id.size, catalogue, rng)
    return Drawn(catalogue, effects, exposures, draw_outcomes(exposures, effects, catalogue, rng))


def slow_probability(drawn: Drawn, row: int, earlier: list[int]) -> float:
    """The documented formula for one impression, from its user's strictly earlier rows."""
    shown, came = drawn.exposures, drawn.outcomes
    category = drawn.catalogue.category[shown.item]
    pages = sorted({int(shown.time_ms[e]) for e in earlier})
    size = {page: sum(int(shown.time_ms[e]) == page for e in earlier) for page in pages}
    length = len(earlier)
    sums = {"near": [0.0, 0.0], "all": [0.0, 0.0]}
    for e in earlier:
        since = sum(count for page, count in size.items() if page > shown.time_ms[e])
        if came.hidden[e]:
            amount, side = RULE.loss_hide, 1
        elif came.shared[e]:
            amount, side = RULE.gain_share, 0
        elif came.liked[e]:
            amount, side = RULE.gain_like, 0
        elif came.clicked[e]:
            amount, side = RULE.gain_click, 0
        else:
            amount, side = RULE.loss_exposure, 1
        amount *= math.exp(-since / RULE.memory)
        near = 0.0
        if category[e] == category[row]:
            near = 1.0
        elif category[e] % EXPOSURE.themes == category[row] % EXPOSURE.themes:
            near = RULE.related * RULE.sharpness / (length + RULE.sharpness)
        sums["near"][side] += near * amount
        sums["all"][side] += amount
    balance = {name: (p - n) / (RULE.shrink + p + n) for name, (p, n) in sums.items()}
    affinity = balance["near"] - RULE.contrast * balance["all"]

    item = shown.item[row]
    k = drawn.effects.common[item]
    repeats = sum(shown.item[e] == item for e in earlier)
    hour = (int(shown.time_ms[row]) // 3_600_000) % 24
    logit = RULE.base + drawn.effects.user[shown.user[row]] + drawn.effects.item[item]
    logit += RULE.position * math.log(1 + shown.position[row]) * (1 - RULE.position_common * k)
    logit += RULE.surface[shown.surface[row]]
    logit += RULE.hour * math.cos(2 * math.pi * (hour - 21) / 24)
    logit += RULE.habituation * math.log(1 + repeats) * k
    logit += RULE.interest * (1 + RULE.interest_rare * (1 - k)) * affinity
    return 1 / (1 + math.exp(-logit))


def test_probability_is_the_documented_function_of_strictly_earlier_events() -> None:
    drawn = draw(2_000)
    shown = drawn.exposures
    for row in range(shown.user.size):
        mine = np.flatnonzero(shown.user == shown.user[row])
        earlier = [int(e) for e in mine if shown.time_ms[e] < shown.time_ms[row]]
        assert shown.history[row] == len(earlier)
        expected = slow_probability(drawn, row, earlier)
        assert drawn.outcomes.probability[row] == pytest.approx(expected, rel=1e-9)


def test_items_are_shown_only_once_born() -> None:
    drawn = draw(20_000)
    born = drawn.catalogue.birth_ms[drawn.exposures.item]
    assert (born <= drawn.exposures.time_ms).all()


def test_related_events_tell_more_than_the_mean_of_the_history_at_every_length() -> None:
    drawn = draw(60_000)
    shown, clicked = drawn.exposures, drawn.outcomes.clicked
    category = drawn.catalogue.category[shown.item]
    rows = np.flatnonzero(shown.history >= 20)[::3]
    begin = np.searchsorted(shown.user, shown.user[rows])
    related, mean = np.empty(rows.size), np.empty(rows.size)
    for index, row in enumerate(rows):
        end = begin[index] + shown.history[row]
        start = max(begin[index], end - 100)
        past, same = clicked[start:end], category[start:end] == category[row]
        related[index] = (past[same].sum() + 0.5) / (same.sum() + 2)
        mean[index] = past.mean()
    length = shown.history[rows]
    for low, high in ((20, 50), (50, 100), (100, 10**6)):
        bucket = (length >= low) & (length < high)
        label = clicked[rows][bucket]
        gain = auc(related[bucket], label) - auc(mean[bucket], label)
        assert gain > 0.05


def test_click_rule_is_frozen() -> None:
    """A change of any constant makes another dataset: raise VERSION and all published figures."""
    constants = [dataclasses.asdict(EXPOSURE), dataclasses.asdict(RULE)]
    digest = hashlib.sha256(json.dumps(constants, sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "a3bfb53632cbe53e"
