"""OtherBlessedModelStrategy: the last blessed model that is not the candidate itself."""

from __future__ import annotations

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import Artifact

CANDIDATE = "candidate"
_MODEL, _BLESSING = "model", "model_blessing"


class OtherBlessedModelStrategy(ResolverStrategy):
    """Resolves ``model`` and ``model_blessing`` to the last blessed model but ``candidate``.

    The stock strategy would give a model that was trained before, and comes from the cache, as
    its own baseline: a comparison that says nothing and a second evaluation of what is known.
    """

    def resolve_artifacts(
        self, store: object, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]] | None:
        """Returns the channels with one model and its blessing, or none where there is none."""
        candidates = {artifact.id for artifact in input_dict[CANDIDATE]}
        others = [model for model in input_dict[_MODEL] if model.id not in candidates]
        resolved = LatestBlessedModelStrategy().resolve_artifacts(
            store, {_MODEL: others, _BLESSING: input_dict[_BLESSING]}
        )
        return {
            _MODEL: [],
            _BLESSING: [],
            **(resolved or {}),
            CANDIDATE: input_dict[CANDIDATE],
        }
