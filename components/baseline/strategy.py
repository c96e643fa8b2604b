"""OtherBlessedModelStrategy: the last model that served well and is not the candidate itself."""

from __future__ import annotations

from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import Artifact

CANDIDATE = "candidate"
# Which model a blessing is of; the Evaluator and ServingCanary set it alike.
MODEL_ID_PROPERTY = "current_model_id"
_MODEL, _BLESSING, _INFRA_BLESSING = "model", "model_blessing", "infra_blessing"


class OtherBlessedModelStrategy(ResolverStrategy):
    """Resolves ``model`` and ``model_blessing`` to the last blessed model but ``candidate``.

    The stock strategy would give a model that was trained before, and comes from the cache, as
    its own baseline: a comparison that says nothing and a second evaluation of what is known. And
    it would give one that the canary refused (``infra_blessing``), so that the next model would
    have to be as good as one that nobody was ever served.
    """

    def resolve_artifacts(
        self, store: object, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]] | None:
        """Returns the channels with one model and its blessing, or none where there is none."""
        passed_over = {artifact.id for artifact in input_dict[CANDIDATE]}
        passed_over |= _refused(input_dict[_INFRA_BLESSING])
        others = [model for model in input_dict[_MODEL] if model.id not in passed_over]
        resolved = LatestBlessedModelStrategy().resolve_artifacts(
            store, {_MODEL: others, _BLESSING: input_dict[_BLESSING]}
        )
        return {
            _MODEL: [],
            _BLESSING: [],
            _INFRA_BLESSING: [],
            **(resolved or {}),
            CANDIDATE: input_dict[CANDIDATE],
        }


def _refused(blessings: list[Artifact]) -> set[int]:
    """Ids of the models that the canary refused when it last looked at them."""
    last = {
        blessing.get_int_custom_property(MODEL_ID_PROPERTY): blessing
        for blessing in sorted(blessings, key=lambda artifact: artifact.id)
    }
    return {
        model for model, blessing in last.items() if not blessing.get_int_custom_property("blessed")
    }
