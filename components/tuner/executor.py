"""Executor of ProfiledTuner."""

from __future__ import annotations

from typing import Any

from tfx.components.tuner import executor
from tfx.types import Artifact

from components.profile_path import with_profile


class Executor(executor.Executor):
    """Hands the profile's path to ``tuner_fn``; the rest is TFX's."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Searches and writes the best hyperparameters and the results of all trials."""
        super().Do(input_dict, output_dict, with_profile(input_dict, exec_properties))
