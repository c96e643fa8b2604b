"""What each backbone can carry, free of TensorFlow, so that a configuration is checked at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Backbone(str, enum.Enum):
    """The part of a ranker that turns a history into a user's interest in the target."""

    POOLED = "pooled"
    DIN = "din"
    DIEN = "dien"
    SIM = "sim"
    ETA = "eta"
    SDIM = "sdim"
    TWIN = "twin"
    HYFORMER = "hyformer"
    MIXFORMER = "mixformer"
    ONETRANS = "onetrans"


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a backbone offers to the other axes of a model.

    Attributes:
        reads_target: its output depends on the target item, so it runs once a candidate.
        softmax: it weighs history events by a softmax, which a temperature can flatten.
        short_branch: it reads the most recent events one by one.
        long_branch: it reads the long history apart from the short one.
        queries: it has query tokens that attend to the history.
    """

    reads_target: bool
    softmax: bool
    short_branch: bool
    long_branch: bool
    queries: bool


CAPABILITIES: dict[Backbone, Capabilities] = {
    Backbone.POOLED: Capabilities(
        reads_target=False, softmax=False, short_branch=False, long_branch=False, queries=False
    ),
    Backbone.DIN: Capabilities(
        reads_target=True, softmax=True, short_branch=True, long_branch=False, queries=False
    ),
}


def usable_backbones() -> list[str]:
    """Returns the names of the backbones that a configuration may name."""
    return [backbone.value for backbone in CAPABILITIES]
