"""The parts of the click rule that belong to a user or an item alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from beam_jobs.simulation.catalogue import Catalogue
from beam_jobs.simulation.click_rule import RULE
from beam_jobs.simulation.process import EXPOSURE, generator
from beam_jobs.simulation.users import Users


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effects:
    """What is fixed of users and items, in logits.

    Attributes:
        user: ``[users]`` sum of a user's terms.
        item: ``[items]`` sum of an item's terms.
        common: ``[items]`` how common an item is, 0 to 1.
    """

    user: np.ndarray
    item: np.ndarray
    common: np.ndarray


def draw_effects(users: Users, catalogue: Catalogue, seed: int) -> Effects:
    """Draws the parts of the rule that belong to a user or an item alone."""
    rule, rng = RULE, generator(seed, 2)
    user = (
        np.asarray(rule.age)[users.age_group]
        + np.asarray(rule.country)[users.country]
        + np.asarray(rule.device)[users.device]
        + rule.account * (np.log1p(users.account_days) - 5.5)
        + rng.normal(0, rule.user_free, users.user_id.size)
    )
    samples = catalogue.expected_samples
    common = samples / (samples + rule.common_half)
    own = rng.normal(size=common.size) * (rule.own_rare + rule.own_common * common)
    item = (
        rng.normal(0, rule.category, EXPOSURE.categories)[catalogue.category]
        + rng.normal(0, rule.author, catalogue.authors)[catalogue.author]
        + own
        + rule.duration * (np.log(catalogue.duration_seconds) - 3.4)
    )
    return Effects(user=user, item=item, common=common)
