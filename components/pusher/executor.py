"""Executor of VersionedPusher: pushes the model if every wired blessing is given."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components.pusher.versions import Version, fingerprint, push
from schemas.writing import write_text

MODEL_KEY = "model"
MODEL_BLESSING_KEY = "model_blessing"
INFRA_BLESSING_KEY = "infra_blessing"
PUSHED_MODEL_KEY = "pushed_model"
PUSH_FILE = "push.json"

PUSHED = "pushed"
UNCHANGED = "unchanged"
NOT_BLESSED = "not_blessed"

_LOG = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Pushes a model as the next version of a folder, and says so in ``push.json``."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes, or states why not.

        Args:
            input_dict: ``model`` of the Trainer; ``model_blessing`` and ``infra_blessing`` if
                wired. An infra blessing with a copy of the model (warm-up requests added) has
                that copy pushed; the fingerprint is of the Trainer's model all the same.
            output_dict: ``pushed_model``, a PushedModel artifact.
            exec_properties: ``destination`` and ``run_id``.

        Raises:
            PushFailed: the model could not be written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        output = artifact_utils.get_single_instance(output_dict[PUSHED_MODEL_KEY])
        destination = Path(exec_properties["destination"])
        refusals = _missing_blessings(input_dict)
        if refusals:
            _report(output, status=NOT_BLESSED, reason="; ".join(refusals))
            return
        if not input_dict.get(MODEL_BLESSING_KEY) and not input_dict.get(INFRA_BLESSING_KEY):
            _LOG.warning("no blessing is wired to the pusher: the model is pushed unchecked")
        trained = _serving_model(artifact_utils.get_single_instance(input_dict[MODEL_KEY]))
        record = {
            "fingerprint": fingerprint(trained),
            "run_id": exec_properties["run_id"],
            "pushed_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        version, is_new = push(_source(input_dict, trained), destination, record)
        if is_new:
            reason = f"written as version {version.number}"
        else:
            reason = f"version {version.number} is this model already"
        _report(output, status=PUSHED if is_new else UNCHANGED, reason=reason, version=version)


def _missing_blessings(input_dict: dict[str, list[Artifact]]) -> list[str]:
    """Returns what each wired blessing that was not given says."""
    checks = (
        (MODEL_BLESSING_KEY, model_utils.is_model_blessed, "the evaluation refused the model"),
        (INFRA_BLESSING_KEY, model_utils.is_infra_validated, "the server check refused the model"),
    )
    return [
        refusal
        for key, is_blessed, refusal in checks
        if key in input_dict
        and not (
            input_dict[key] and is_blessed(artifact_utils.get_single_instance(input_dict[key]))
        )
    ]


def _serving_model(model: Artifact) -> Path:
    return Path(path_utils.serving_model_path(model.uri))


def _source(input_dict: dict[str, list[Artifact]], trained: Path) -> Path:
    blessings = input_dict.get(INFRA_BLESSING_KEY)
    if blessings:
        blessing = artifact_utils.get_single_instance(blessings)
        if blessing.get_int_custom_property("has_model") == 1:
            return Path(path_utils.stamped_model_path(blessing.uri))
    return trained


def _report(output: Artifact, *, status: str, reason: str, version: Version | None = None) -> None:
    output.set_int_custom_property("pushed", int(status == PUSHED))
    content: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "version": None,
        "path": None,
    }
    if version is not None:
        content["version"], content["path"] = version.number, str(version.path)
        # The names that the stock Pusher uses.
        output.set_string_custom_property("pushed_destination", str(version.path))
        output.set_string_custom_property("pushed_version", str(version.number))
    write_text(Path(output.uri) / PUSH_FILE, json.dumps(content, indent=2) + "\n")
    _LOG.info("push: %s, %s", status, reason)
