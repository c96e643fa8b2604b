"""What each backbone can carry, free of TensorFlow, so that a configuration is checked at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Backbone(str, enum.Enum):
    """The part of a ranker that turns a history into a user's interest in the target."""

    NONE = "none"
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
        short_branch: it attends to the most recent events, or to all of them, one by one.
        long_branch: it retrieves from the long history apart from the short branch.
        long_softmax: the long branch weighs what it retrieved by a softmax.
        queries: it has query tokens that attend to the history.
        reads_fields: it reads the non-sequence fields and the target itself, so the head reads
            its output alone.
    """

    short_branch: bool = True
    long_branch: bool = False
    long_softmax: bool = False
    queries: bool = False
    reads_fields: bool = False


_NO_ATTENTION = Capabilities(short_branch=False)
_ONE_BRANCH = Capabilities()
_RETRIEVAL = Capabilities(long_branch=True, long_softmax=True)
_LATENT_QUERIES = Capabilities(queries=True, reads_fields=True)

CAPABILITIES: dict[Backbone, Capabilities] = {
    Backbone.NONE: _NO_ATTENTION,
    Backbone.POOLED: _NO_ATTENTION,
    Backbone.DIN: _ONE_BRANCH,
    Backbone.DIEN: _ONE_BRANCH,
    Backbone.SIM: _RETRIEVAL,
    Backbone.ETA: _RETRIEVAL,
    Backbone.SDIM: Capabilities(long_branch=True),
    Backbone.TWIN: _RETRIEVAL,
    Backbone.HYFORMER: _LATENT_QUERIES,
    Backbone.MIXFORMER: _LATENT_QUERIES,
    Backbone.ONETRANS: _LATENT_QUERIES,
}


def backbones_with(capability: str) -> list[str]:
    """Returns the names of the backbones that offer ``capability``, a field of the table."""
    return [
        backbone.value for backbone, offers in CAPABILITIES.items() if getattr(offers, capability)
    ]
