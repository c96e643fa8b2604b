"""Executor of ProfiledTrainer."""

from __future__ import annotations

import json
import os
from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.types import Artifact, artifact_utils

from schemas.profile import PROFILE_FILE

PROFILE_KEY = "profile"


class Executor(GenericExecutor):
    """Hands the profile's path to ``run_fn``; the rest is TFX's."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains and writes the model."""
        profile = artifact_utils.get_single_uri(input_dict[PROFILE_KEY])
        custom_config = json.loads(exec_properties["custom_config"])
        custom_config[PROFILE_KEY] = os.path.join(profile, PROFILE_FILE)
        super().Do(
            input_dict,
            output_dict,
            {**exec_properties, "custom_config": json.dumps(custom_config)},
        )
