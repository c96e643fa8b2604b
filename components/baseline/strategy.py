"""OtherBlessedModelStrategy: the last model that served well and is not the candidate itself."""

from __future__ import annotations

from tfx.components.util import model_utils
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import Artifact

CANDIDATE = "candidate"
# Which model a blessing is of; the Evaluator and ServingCanary set it alike.
MODEL_ID_PROPERTY = "current_model_id"
_MODEL, _BLESSING, _INFRA_BLESSING = "model", "model_blessing", "infra_blessing"
_VERDICT = "blessed"


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
    """Ids of the models that the canary refused and never passed.

    One that it passed once was pushed. A later refusal, as of a run with a stricter limit, leaves
    it serving, and so what the next model is compared with.
    """
    # A model that was not tried has a blessing without a verdict.
    tried = [blessing for blessing in blessings if blessing.has_custom_property(_VERDICT)]
    passed = {_model_of(blessing) for blessing in tried if model_utils.is_infra_validated(blessing)}
    return {_model_of(blessing) for blessing in tried} - passed


def _model_of(blessing: Artifact) -> int:
    return int(blessing.get_int_custom_property(MODEL_ID_PROPERTY))
