"""Executor of ProfiledTrainer."""

from __future__ import annotations

from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.types import Artifact

from components.profile_path import with_profile


class Executor(GenericExecutor):
    """Hands the profile's path to ``run_fn``; the rest is TFX's."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains and writes the model."""
        super().Do(input_dict, output_dict, with_profile(input_dict, exec_properties))
