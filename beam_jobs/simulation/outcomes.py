"""Outcomes of the simulated log: applies the click rule, page by page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from beam_jobs.simulation.catalogue import Catalogue
from beam_jobs.simulation.click_rule import RULE
from beam_jobs.simulation.effects import Effects
from beam_jobs.simulation.exposures import Exposures
from beam_jobs.simulation.process import EXPOSURE, HOUR_MS, START_MS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What came of impressions, arrays of ``[rows]``.

    Attributes:
        probability: true probability of a click.
        clicked, liked, shared, hidden: flags.
        dwell_seconds: time spent, to a tenth of a second.
    """

    probability: np.ndarray
    clicked: np.ndarray
    liked: np.ndarray
    shared: np.ndarray
    hidden: np.ndarray
    dwell_seconds: np.ndarray


def draw_outcomes(
    exposures: Exposures, effects: Effects, catalogue: Catalogue, rng: np.random.Generator
) -> Outcomes:
    """Applies the rule to the impressions of a block and draws what comes of them."""
    rows = exposures.user.size
    category = catalogue.category[exposures.item]
    settled = settled_logit(exposures, effects)
    pull = RULE.interest * (1 + RULE.interest_rare * (1 - effects.common[exposures.item]))
    chance = rng.random((4, rows))
    probability = np.empty(rows)
    clicked, liked, shared, hidden = np.empty((4, rows), bool)
    memory = _Memory(exposures)
    # All users advance together, page by page: a page sees only what earlier pages left.
    for now in memory.steps():
        affinity = memory.affinity(now, category[now], exposures.history[now])
        probability[now] = _sigmoid(settled[now] + pull[now] * affinity)
        clicked[now] = chance[0, now] < probability[now]
        liked[now] = clicked[now] & (chance[1, now] < _follow_up(RULE.like, affinity))
        shared[now] = clicked[now] & (chance[2, now] < _follow_up(RULE.share, affinity))
        hidden[now] = ~clicked[now] & (chance[3, now] < _follow_up(RULE.hide, affinity))
        memory.remember(now, category[now], clicked[now], liked[now], shared[now], hidden[now])

    watched = catalogue.duration_seconds[exposures.item] * rng.beta(2.0, 2.0, rows)
    glanced = rng.exponential(1.5, rows)
    return Outcomes(
        probability=probability,
        clicked=clicked,
        liked=liked,
        shared=shared,
        hidden=hidden,
        dwell_seconds=np.round(np.where(clicked, watched, glanced), 1),
    )


def settled_logit(exposures: Exposures, effects: Effects) -> np.ndarray:
    """Returns the logit of all terms but the interest, ``[rows]``."""
    rule = RULE
    common = effects.common[exposures.item]
    position = rule.position * np.log1p(exposures.position) * (1 - rule.position_common * common)
    hour = (exposures.time_ms - START_MS) // HOUR_MS % 24
    seen = _earlier_exposures(exposures)
    return (
        rule.base
        + effects.user[exposures.user]
        + effects.item[exposures.item]
        + position
        + np.asarray(rule.surface)[exposures.surface]
        + rule.hour * np.cos(2 * np.pi * (hour - 21) / 24)
        + rule.habituation * np.log1p(seen) * common
    )


class _Memory:
    """The decayed counts ``P`` and ``N`` of each user and category, advanced page by page."""

    def __init__(self, exposures: Exposures) -> None:
        """Sets up empty counts.

        Args:
            exposures: rows of whole users, by user and time.
        """
        new_page = exposures.position == 0
        self._user = exposures.user - exposures.user[0]
        page_user = self._user[new_page]
        first_page = np.searchsorted(page_user, page_user)
        step = (np.arange(page_user.size) - first_page)[np.cumsum(new_page) - 1]
        self._order = np.argsort(step, kind="stable")
        self._bounds = np.concatenate([[0], np.cumsum(np.bincount(step))])
        users, layers = int(self._user[-1]) + 1, EXPOSURE.categories // EXPOSURE.themes
        # Category c is layer c // themes of theme c % themes.
        self._gains = np.zeros((users, layers, EXPOSURE.themes))
        self._losses = np.zeros((users, layers, EXPOSURE.themes))

    def steps(self) -> Iterator[np.ndarray]:
        """Yields the rows of every user's first page, then second page, and so on."""
        for begin, end in itertools.pairwise(self._bounds):
            yield self._order[begin:end]

    def affinity(self, now: np.ndarray, category: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Returns ``A`` of the rows ``now``."""
        user, theme = self._user[now], category % EXPOSURE.themes
        near = RULE.related * RULE.sharpness / (history + RULE.sharpness)
        gains, losses = (
            (1 - near) * counts[user, category // EXPOSURE.themes, theme]
            + near * counts[user, :, theme].sum(axis=1)
            for counts in (self._gains, self._losses)
        )
        gains_all, losses_all = (
            counts.sum(axis=(1, 2))[user] for counts in (self._gains, self._losses)
        )
        return _balance(gains, losses) - RULE.contrast * _balance(gains_all, losses_all)

    def remember(
        self,
        now: np.ndarray,
        category: np.ndarray,
        clicked: np.ndarray,
        liked: np.ndarray,
        shared: np.ndarray,
        hidden: np.ndarray,
    ) -> None:
        """Lets the counts fade by the page's events, then adds those."""
        user = self._user[now]
        first = np.flatnonzero(np.diff(user, prepend=-1))
        events = np.diff(first, append=user.size)
        fade = np.exp(-events / RULE.memory)[:, None, None]
        self._gains[user[first]] *= fade
        self._losses[user[first]] *= fade
        gain = np.select(
            [shared, liked, clicked], [RULE.gain_share, RULE.gain_like, RULE.gain_click], 0.0
        )
        loss = np.select([hidden, ~clicked], [RULE.loss_hide, RULE.loss_exposure], 0.0)
        place = (user, category // EXPOSURE.themes, category % EXPOSURE.themes)
        np.add.at(self._gains, place, gain)
        np.add.at(self._losses, place, loss)


def _earlier_exposures(exposures: Exposures) -> np.ndarray:
    """Counts the user's strictly earlier exposures to the same item, ``[rows]``."""
    # No page shows an item twice, so rows of one user and item have distinct times.
    order = np.lexsort((exposures.history, exposures.item, exposures.user))
    user, item = exposures.user[order], exposures.item[order]
    rows = np.arange(user.size)
    first = (np.diff(user, prepend=-1) != 0) | (np.diff(item, prepend=-1) != 0)
    seen = np.empty(user.size, np.int64)
    seen[order] = rows - np.maximum.accumulate(np.where(first, rows, 0))
    return seen


def _balance(gains: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return (gains - losses) / (RULE.shrink + gains + losses)


def _follow_up(effect: tuple[float, float], affinity: np.ndarray) -> np.ndarray:
    constant, slope = effect
    return _sigmoid(constant + slope * affinity)


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-logit))
