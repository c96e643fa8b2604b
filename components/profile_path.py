"""Hands the path of the SequenceProfile to functions that TFX calls with a ``custom_config``."""

from __future__ import annotations

import json
import os
from typing import Any

from tfx.types import Artifact, artifact_utils

from schemas.profile import PROFILE_FILE

PROFILE_KEY = "profile"


def with_profile(
    input_dict: dict[str, list[Artifact]], exec_properties: dict[str, Any]
) -> dict[str, Any]:
    """Returns the execution properties with the profile's path in their ``custom_config``."""
    profile = artifact_utils.get_single_uri(input_dict[PROFILE_KEY])
    custom_config = json.loads(exec_properties["custom_config"])
    custom_config[PROFILE_KEY] = os.path.join(profile, PROFILE_FILE)
    return {**exec_properties, "custom_config": json.dumps(custom_config)}
